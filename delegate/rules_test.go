package delegate

import (
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
)

// rule is one way to break a body that passes otherwise, and the code that it
// must end in.
type rule struct {
	name string
	code vigil.Code
	bend func(*wallet)
}

func messageRules() []rule {
	return []rule{
		{"message is no JSON", vigil.CodeInvalidMessage, func(w *wallet) { w.spoilBody = func(b *StockBody) { b.Message = "{" } }},
		{"message is not canonical", vigil.CodeInvalidMessage, func(w *wallet) { w.spoilBody = func(b *StockBody) { b.Message += " " } }},
		{"message of another kind", vigil.CodeInvalidMessage, func(w *wallet) { w.message = intent.Message{Kind: intent.Delete} }},
		{"message too long", vigil.CodeInvalidMessage, func(w *wallet) {
			w.spoilBody = func(b *StockBody) { b.Message = strings.Repeat(" ", maxMessage+1) }
		}},
		{"on-chain output", vigil.CodeOnchainOutput, func(w *wallet) { w.message.OnchainOutputs = []int{0} }},
		{"no cosigner", vigil.CodeCosignersMismatch, func(w *wallet) { w.message.Cosigners = []string{} }},
		{"a foreign cosigner", vigil.CodeCosignersMismatch, func(w *wallet) { w.message = intent.NewRegister(validAt, 0, w.owner.PubKey()) }},
		{"a second cosigner", vigil.CodeCosignersMismatch, func(w *wallet) {
			w.message = intent.NewRegister(validAt, 0, w.delegate.PubKey(), w.owner.PubKey())
		}},
		{"a cosigner that is no key", vigil.CodeCosignersMismatch, func(w *wallet) { w.message.Cosigners = []string{"02"} }},
	}
}

func timeRules() []rule {
	return []rule{
		{"no valid_at", vigil.CodeValidAtInvalid, func(w *wallet) { w.message.ValidAt = 0 }},
		{"valid_at after expiry", vigil.CodeValidAtInvalid, func(w *wallet) { w.message.ValidAt = w.vtxos[0].ExpiresAt }},
		{"valid_at in another age", vigil.CodeValidAtInvalid, func(w *wallet) {
			w.message.ValidAt, w.vtxos[0].Swept, w.vtxos[1].Swept = now+furthest+1, true, true
		}},
		{"valid_at a session before expiry", vigil.CodeValidAtInvalid, func(w *wallet) {
			w.terms.Params.Network = ark.Mutinynet
			w.useSeconds()
			w.message.ValidAt = w.vtxos[0].ExpiresAt - 30
		}},
		{"expire_at without room", vigil.CodeExpireAtInvalid, func(w *wallet) { w.message.ExpireAt = validAt + 59 }},
		{"expire_at passed", vigil.CodeExpireAtInvalid, func(w *wallet) { w.message.ExpireAt = now - 1 }},
	}
}

func shapeRules() []rule {
	return []rule{
		{"proof is no PSBT", vigil.CodeInvalidProof, func(w *wallet) { w.spoilBody = func(b *StockBody) { b.Proof = "cHNidA==" } }},
		{"proof over another message", vigil.CodeInvalidProof, func(w *wallet) {
			w.spoilBody = func(b *StockBody) { b.Message = strings.Replace(b.Message, "1900000000", "1900000001", 1) }
		}},
		{"proof without VTXO", vigil.CodeInvalidProof, func(w *wallet) {
			w.afterProof = func(p *psbt.Packet) {
				p.UnsignedTx.TxIn, p.Inputs = p.UnsignedTx.TxIn[:1], p.Inputs[:1]
			}
		}},
		{"proof without outputs", vigil.CodeInvalidProof, func(w *wallet) { w.outputs = nil }},
		{"outputs exceed inputs", vigil.CodeInvalidProof, func(w *wallet) { w.outputs[0].Value++ }},
		{"no witness UTXO", vigil.CodeInvalidProof, func(w *wallet) { w.afterProof = func(p *psbt.Packet) { p.Inputs[1].WitnessUtxo = nil } }},
		{"a relative lock on a collaborative leaf", vigil.CodeInvalidProof, func(w *wallet) { w.sequence = 5 }},
		{"too many inputs", vigil.CodeTooManyInputs, func(w *wallet) { w.limits.Inputs = 1 }},
		{"more forfeits than inputs are taken", vigil.CodeTooManyInputs, func(w *wallet) {
			w.spoilBody = func(b *StockBody) { b.Forfeits = make([]string, 129) }
		}},
		{"too many outputs", vigil.CodeTooManyOutputs, func(w *wallet) {
			w.outputs = []*wire.TxOut{wire.NewTxOut(15_000, w.tree.PkScript()), wire.NewTxOut(15_000, w.tree.PkScript())}
			w.limits.Outputs = 1
		}},
		{"proof too heavy", vigil.CodeProofTooHeavy, func(w *wallet) { w.terms.Params.MaxTxWeight = 1000 }},
		{"an input twice", vigil.CodeDuplicateInput, func(w *wallet) {
			w.afterProof = func(p *psbt.Packet) { p.UnsignedTx.TxIn[2].PreviousOutPoint = p.UnsignedTx.TxIn[1].PreviousOutPoint }
		}},
	}
}

func signatureRules() []rule {
	return []rule{
		{"unsigned input", vigil.CodeSignatureInvalid, func(w *wallet) {
			w.afterProof = func(p *psbt.Packet) { p.Inputs[2].TaprootScriptSpendSig = nil }
		}},
		{"unsigned message input", vigil.CodeSignatureInvalid, func(w *wallet) {
			w.afterProof = func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig = nil }
		}},
		{"a wrong signature", vigil.CodeSignatureInvalid, func(w *wallet) {
			w.afterProof = func(p *psbt.Packet) { p.Inputs[1].TaprootScriptSpendSig[0].Signature[5] ^= 1 }
		}},
		{"outputs changed after signing", vigil.CodeSignatureInvalid, func(w *wallet) {
			w.afterProof = func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value-- }
		}},
		{"nobody but operator and delegate signs", vigil.CodeSignatureInvalid, func(w *wallet) { w.withOwnerlessLeaf() }},
		{"NONE", vigil.CodeSighashUnsupported, func(w *wallet) { w.sighash = txscript.SigHashNone }},
		{"ANYONECANPAY", vigil.CodeSighashUnsupported, func(w *wallet) { w.sighash = txscript.SigHashAll | txscript.SigHashAnyOneCanPay }},
		{"exit leaf without its delay", vigil.CodeExitLeafSequence, func(w *wallet) { w.leaf = 1 }},
		{"a leaf with a condition", vigil.CodeLeafUnsupported, func(w *wallet) { w.withConditionLeaf() }},
	}
}

func inputRules() []rule {
	return []rule{
		{"unknown input", vigil.CodeInputUnknown, func(w *wallet) { w.hide(1) }},
		{"spent input", vigil.CodeInputSpent, func(w *wallet) { w.vtxos[1].Spent = true }},
		{"unrolled input", vigil.CodeInputUnrolled, func(w *wallet) { w.vtxos[1].Unrolled = true }},
		{"a note", vigil.CodeInputNotDelegable, func(w *wallet) { w.vtxos[1].CommitmentTxs = nil }},
		{"amount differs", vigil.CodeInputMismatch, func(w *wallet) {
			w.spoilProof = func(p *psbt.Packet) { p.Inputs[1].WitnessUtxo.Value++ }
		}},
		{"script differs", vigil.CodeInputMismatch, func(w *wallet) {
			w.spoilProof = func(p *psbt.Packet) { p.Inputs[2].WitnessUtxo.PkScript[9] ^= 1 }
		}},
		{"no taptree", vigil.CodeScriptInvalid, func(w *wallet) { w.afterProof = func(p *psbt.Packet) { p.Inputs[1].Unknowns = nil } }},
		{"taptree of another script", vigil.CodeInvalidProof, func(w *wallet) {
			w.afterProof = func(p *psbt.Packet) {
				other, err := script.Default(w.owner.PubKey().XOnly(), w.signer.PubKey().XOnly(), 20)
				if err != nil {
					w.t.Fatal(err)
				}
				p.Inputs[1].Unknowns = nil
				script.SetTapTree(&p.Inputs[1], other)
			}
		}},
		{"signer past its cutoff", vigil.CodeScriptInvalid, deprecatedSigner(now - 1)},
		{"another operator's script", vigil.CodeScriptInvalid, func(w *wallet) {
			// The stranger's key is skipped nowhere, so it has to sign as an owner would.
			w.terms.Params.SignerKey = testKey(w.t, 0x77).PubKey()
			w.leaf, w.sequence = 1, 20
		}},
		{"blocks on a network of seconds", vigil.CodeScriptInvalid, func(w *wallet) { w.terms.Params.Network = ark.Signet }},
		{"no exit leaf", vigil.CodeScriptInvalid, func(w *wallet) { w.withLeaves(0, 2) }},
		{"no delegate leaf", vigil.CodeDelegateKeyMissing, func(w *wallet) { w.withLeaves(0, 1) }},
	}
}

func forfeitRules() []rule {
	return []rule{
		{"no forfeit", vigil.CodeForfeitMissing, func(w *wallet) { w.skipForfeit[1] = true }},
		{"a forfeit of another coin", vigil.CodeForfeitUnexpected, func(w *wallet) {
			w.forfeitTerms = func(terms *forfeit.Terms) { terms.Outpoint.Index += 7 }
		}},
		{"a forfeit twice", vigil.CodeForfeitDuplicate, func(w *wallet) { w.extraForfeits = []*psbt.Packet{w.partial(0)} }},
		{"forfeit of another dust", vigil.CodeForfeitInvalid, func(w *wallet) { w.forfeitTerms = func(terms *forfeit.Terms) { terms.Dust++ } }},
		{"forfeit to another script", vigil.CodeForfeitInvalid, func(w *wallet) {
			w.forfeitTerms = func(terms *forfeit.Terms) { terms.Script = ark.PayToTaproot(w.owner.PubKey().XOnly()) }
		}},
		{"forfeit of another amount", vigil.CodeForfeitInvalid, func(w *wallet) { w.forfeitTerms = func(terms *forfeit.Terms) { terms.Amount++ } }},
		{"forfeit version", vigil.CodeForfeitInvalid, func(w *wallet) { w.spoilForfeit = func(p *psbt.Packet) { p.UnsignedTx.Version = 2 } }},
		{"forfeit locktime", vigil.CodeForfeitInvalid, func(w *wallet) { w.spoilForfeit = func(p *psbt.Packet) { p.UnsignedTx.LockTime = 1 } }},
		{"forfeit sequence", vigil.CodeForfeitInvalid, func(w *wallet) {
			w.spoilForfeit = func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].Sequence-- }
		}},
		{"forfeit without anchor", vigil.CodeForfeitInvalid, func(w *wallet) {
			w.spoilForfeit = func(p *psbt.Packet) {
				p.UnsignedTx.TxOut, p.Outputs = p.UnsignedTx.TxOut[:1], p.Outputs[:1]
			}
		}},
		{"forfeit on the owner's leaf", vigil.CodeForfeitInvalid, func(w *wallet) { w.forfeitLeaf = 0 }},
		{"forfeit is no PSBT", vigil.CodeForfeitInvalid, func(w *wallet) { w.spoilBody = func(b *StockBody) { b.Forfeits[0] = "AAAA" } }},
		{"forfeit with a connector", vigil.CodeForfeitInvalid, func(w *wallet) {
			w.afterForfeit = func(p *psbt.Packet) {
				p.UnsignedTx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: chainhash.Hash{5}}, nil, nil))
				p.Inputs = append(p.Inputs, psbt.PInput{})
			}
		}},
		{"forfeit without signature", vigil.CodeSignatureInvalid, func(w *wallet) {
			w.afterForfeit = func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig = nil }
		}},
		{"forfeit with a wrong signature", vigil.CodeSignatureInvalid, func(w *wallet) {
			w.afterForfeit = func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig[0].Signature[9] ^= 1 }
		}},
		{"forfeit of type ALL", vigil.CodeSignatureInvalid, func(w *wallet) {
			w.afterForfeit = func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig[0].SigHash = txscript.SigHashAll }
		}},
	}
}

func outputRules() []rule {
	return []rule{
		{"a stranger's script", vigil.CodeDestinationNotOwner, func(w *wallet) {
			w.outputs[0].PkScript = ark.PayToTaproot(testKey(w.t, 0x55).PubKey().XOnly())
		}},
		{"below dust", vigil.CodeOutputAmount, func(w *wallet) {
			w.outputs = []*wire.TxOut{wire.NewTxOut(29_671, w.tree.PkScript()), wire.NewTxOut(329, w.tree.PkScript())}
		}},
		{"above the largest VTXO", vigil.CodeOutputAmount, func(w *wallet) { w.terms.Params.VtxoMax = 29_999 }},
		{"an output that is not Taproot", vigil.CodeOutputAmount, func(w *wallet) { w.outputs[0].PkScript = w.terms.Params.ForfeitScript }},
		{"nothing returned", vigil.CodeInputNotDelegable, func(w *wallet) {
			w.outputs[0].PkScript = ark.PayToTaproot(testKey(w.t, 0x55).PubKey().XOnly())
			w.terms.Fee, w.terms.FeeScript = 400, w.outputs[0].PkScript
		}},
		{"no service fee", vigil.CodeServiceFee, func(w *wallet) {
			w.terms.Fee, w.terms.FeeScript = 400, ark.PayToTaproot(testKey(w.t, 0x55).PubKey().XOnly())
		}},
		{"a lower service fee", vigil.CodeServiceFee, func(w *wallet) { w.payService(399) }},
		{"the service fee twice", vigil.CodeServiceFee, func(w *wallet) { w.payService(400); w.payService(400) }},
		{"less than the operator asks", vigil.CodeFeeTooLow, func(w *wallet) { w.terms.Params.Fees.OffchainInput = "1.0" }},
		{"less than the operator asks for an output", vigil.CodeFeeTooLow, func(w *wallet) { w.terms.Params.Fees.OffchainOutput = "1.0" }},
		{"more than the operator asks", vigil.CodeFeeTooHigh, func(w *wallet) { w.outputs[0].Value -= 1 }},
		{"an asset is burned", vigil.CodeAssetsNotConserved, func(w *wallet) { w.withAsset(1) }},
		{"an asset without extension", vigil.CodeAssetsNotConserved, func(w *wallet) { w.withAsset(0); w.outputs = w.outputs[:1] }},
		{"an extension without assets", vigil.CodeAssetsNotConserved, func(w *wallet) { w.withAsset(0); w.vtxos[0].Assets = nil }},
	}
}
