package arktest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// newQuick returns a clock that moves by itself, at most rate times as fast as
// the wall's. It moves by a fixed step each time its goroutine gets a turn, so
// that on a busy machine its time slows down with everything else and no phase
// of a batch ends for want of processor time.
func newQuick(t *testing.T, rate int) *arktest.ManualClock {
	t.Helper()
	const turn = 2 * time.Millisecond
	c := arktest.NewManualClock(time.Now())
	done, stopped := make(chan struct{}), make(chan struct{})
	tick := time.NewTicker(turn)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-tick.C:
				c.Advance(turn * time.Duration(rate))
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() { tick.Stop(); close(done); <-stopped })
	return c
}

// start runs an operator for the length of a test.
func start(t *testing.T, cfg arktest.Config) *arktest.Operator {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = newQuick(t, 8)
	}
	op, err := arktest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	return op
}

// party is a participant that does what it is told, without checking anything.
type party struct {
	t        *testing.T
	op       *arktest.Operator
	ark      arkv1.ArkServiceClient
	index    arkv1.IndexerServiceClient
	key      *btcec.PrivateKey
	cosigner *btcec.PrivateKey
}

// coin is something that a party can spend.
type coin struct {
	at   wire.OutPoint
	out  *wire.TxOut
	tree tapscript.Tree
	leaf int
	key  *btcec.PrivateKey // its owner's
}

func newParty(t *testing.T, op *arktest.Operator) *party {
	t.Helper()
	conn, err := grpc.NewClient(op.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &party{t: t, op: op, ark: arkv1.NewArkServiceClient(conn), index: arkv1.NewIndexerServiceClient(conn)}
	p.key, p.cosigner = newKey(t), newKey(t)
	return p
}

func newKey(t *testing.T) *btcec.PrivateKey {
	t.Helper()
	k, err := btcec.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (p *party) info() *arkv1.GetInfoResponse {
	p.t.Helper()
	i, err := p.ark.GetInfo(p.t.Context(), &arkv1.GetInfoRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	return i
}

func (p *party) tree(delay uint32) tapscript.Tree {
	p.t.Helper()
	raw, err := hex.DecodeString(p.info().SignerPubkey)
	if err != nil {
		p.t.Fatal(err)
	}
	own, signer := tapscript.XOnly(p.key.PubKey()), [32]byte(raw[1:])
	return makeTree(p.t,
		tapscript.Closure{Kind: tapscript.Multisig, Keys: [][32]byte{own, signer}},
		tapscript.Closure{Kind: tapscript.CSVMultisig, Keys: [][32]byte{own}, Delay: tapscript.NewDelay(delay)})
}

func makeTree(t *testing.T, closures ...tapscript.Closure) tapscript.Tree {
	t.Helper()
	var leaves [][]byte
	for _, c := range closures {
		s, err := c.Script()
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, s)
	}
	tree, err := tapscript.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func (p *party) vtxoTree() tapscript.Tree { return p.tree(uint32(p.info().UnilateralExitDelay)) }

// fund pays a boarding output and confirms it.
func (p *party) fund(sats int64) coin {
	p.t.Helper()
	tree := p.tree(uint32(p.info().BoardingExitDelay))
	a, err := address.NewAddressTaproot(tree.PkScript()[2:], &chaincfg.RegressionNetParams)
	if err != nil {
		p.t.Fatal(err)
	}
	at, err := p.op.Faucet(a.EncodeAddress(), sats)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.op.Mine(1); err != nil {
		p.t.Fatal(err)
	}
	return coin{at: at, out: &wire.TxOut{Value: sats, PkScript: tree.PkScript()}, tree: tree, key: p.key}
}

func (p *party) pay(sats int64) *wire.TxOut {
	return &wire.TxOut{Value: sats, PkScript: p.vtxoTree().PkScript()}
}

// proof builds and signs an intent proof.
func (p *party) proof(m proof.Message, coins []coin, outs ...*wire.TxOut) *arkv1.Intent {
	p.t.Helper()
	toSpend := proof.ToSpend(m.Encode(), coins[0].out.PkScript)
	tx := wire.NewMsgTx(2)
	all := append([]coin{{at: wire.OutPoint{Hash: toSpend.TxHash()}, out: toSpend.TxOut[0], tree: coins[0].tree, leaf: coins[0].leaf}}, coins...)
	for _, c := range all {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.at, Sequence: wire.MaxTxInSequenceNum})
	}
	if len(outs) == 0 {
		outs = []*wire.TxOut{{PkScript: []byte{txscript.OP_RETURN}}}
	}
	for _, o := range outs {
		tx.AddTxOut(o)
	}
	packet, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, c := range all {
		c.fill(p.t, &packet.Inputs[i], i > 0)
	}
	sign(p.t, packet, coins)
	return &arkv1.Intent{Proof: encode(p.t, packet), Message: m.Encode()}
}

func encode(t *testing.T, p *psbt.Packet) string {
	t.Helper()
	s, err := p.B64Encode()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func decode(t *testing.T, s string) *psbt.Packet {
	t.Helper()
	p, err := psbt.NewFromRawBytes(strings.NewReader(s), true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sign signs for every owner of the coins.
func sign(t *testing.T, p *psbt.Packet, coins []coin) {
	t.Helper()
	var keys []*btcec.PrivateKey
	for _, c := range coins {
		if !slices.Contains(keys, c.key) {
			keys = append(keys, c.key)
		}
	}
	for _, k := range keys {
		if err := tapscript.Sign(p, k, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// fill writes what a PSBT input that spends the coin carries.
func (c coin) fill(t *testing.T, in *psbt.PInput, withTree bool) {
	t.Helper()
	control, err := c.tree.Proof(c.leaf)
	if err != nil {
		t.Fatal(err)
	}
	in.WitnessUtxo = c.out
	in.TaprootLeafScript = []*psbt.TaprootTapLeafScript{{ControlBlock: control, Script: c.tree.Leaves[c.leaf], LeafVersion: txscript.BaseLeafVersion}}
	if withTree {
		tapscript.AddTapTree(in, c.tree.Leaves)
	}
}

func (p *party) message() proof.Message {
	return proof.Message{Type: proof.Register, Onchain: []int{}, Cosigners: []string{hexKey(p.cosigner)}}
}

func hexKey(k *btcec.PrivateKey) string { return hex.EncodeToString(k.PubKey().SerializeCompressed()) }

func (p *party) register(in *arkv1.Intent) (string, error) {
	res, err := p.ark.RegisterIntent(p.t.Context(), &arkv1.RegisterIntentRequest{Intent: in})
	return res.GetIntentId(), err
}

func (p *party) mustRegister(in *arkv1.Intent) string {
	p.t.Helper()
	id, err := p.register(in)
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

// codeOf returns the operator's code of an error, -1 without one.
func codeOf(err error) int32 {
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*arkv1.ErrorDetails); ok {
			return e.Code
		}
	}
	return -1
}

// manners are what a party leaves out or spoils.
type manners struct {
	noConfirm, noNonces, noSigs, noForfeits, noBoarding bool
	badNonce, badSig, badForfeit                        bool
	fewNonces, unchecked                                bool
	stopAt                                              string // name of the event to stop after
}

// outcome is what a party saw of a batch.
type outcome struct {
	batch      string
	events     []*arkv1.GetEventStreamResponse
	commitment *psbt.Packet
	txid       string
	failed     string
	made       []coin
}

var errStreamEnded = errors.New("stream ended")

// seat is one party's place in a batch; it may carry several intents.
type seat struct {
	p       *party
	ids     []string
	coins   []coin
	m       manners
	out     outcome
	nodes   map[string]*psbt.Packet
	nonces  map[string]*musig2.Nonces
	agg     map[string][musig2.PubNonceSize]byte
	conns   map[string]*psbt.Packet // by the outpoint that each is for
	stream  grpc.ServerStreamingClient[arkv1.GetEventStreamResponse]
	expiry  tapscript.Delay
	signing bool
}

// sit opens the stream with all topics; it must come before the registration,
// so that no batch is missed.
func (p *party) sit(ctx context.Context, coins []coin) *seat {
	p.t.Helper()
	topics := []string{hexKey(p.cosigner)}
	for _, c := range coins {
		topics = append(topics, c.at.String())
	}
	return p.listen(ctx, coins, topics)
}

// listen opens a stream with these topics.
func (p *party) listen(ctx context.Context, coins []coin, topics []string) *seat {
	p.t.Helper()
	s, err := p.ark.GetEventStream(ctx, &arkv1.GetEventStreamRequest{Topics: topics})
	if err != nil {
		p.t.Fatal(err)
	}
	if ev, err := s.Recv(); err != nil || ev.GetStreamStarted().GetId() == "" {
		p.t.Fatalf("stream begins with %v (%v)", ev, err)
	}
	return &seat{p: p, stream: s, coins: coins}
}

// settle registers coins and takes part until the batch ends.
func (p *party) settle(ctx context.Context, m manners, coins []coin, outs ...*wire.TxOut) (outcome, error) {
	p.t.Helper()
	s := p.sit(ctx, coins)
	s.ids, s.m = []string{p.mustRegister(p.proof(p.message(), coins, outs...))}, m
	return s.play(ctx)
}

func (s *seat) play(ctx context.Context) (outcome, error) {
	for {
		ev, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return s.out, errStreamEnded
		}
		if err != nil {
			return s.out, err
		}
		s.out.events = append(s.out.events, ev)
		done, err := s.handle(ctx, ev)
		if done || err != nil {
			return s.out, err
		}
	}
}

func (s *seat) handle(ctx context.Context, ev *arkv1.GetEventStreamResponse) (bool, error) {
	switch {
	case ev.GetBatchStarted() != nil:
		return s.started(ctx, ev.GetBatchStarted())
	case s.out.batch == "":
		return false, nil
	case ev.GetTreeTx() != nil:
		p := decode(s.p.t, ev.GetTreeTx().Tx)
		if ev.GetTreeTx().BatchIndex == 0 {
			s.nodes[p.UnsignedTx.TxID()] = p
		} else if len(ev.GetTreeTx().Children) == 0 {
			for _, at := range ev.GetTreeTx().Topic {
				s.conns[at] = p
			}
		}
	case ev.GetTreeSigningStarted() != nil:
		s.out.commitment = decode(s.p.t, ev.GetTreeSigningStarted().UnsignedCommitmentTx)
		return s.m.stopAt == "treeSigningStarted", s.sendNonces(ctx)
	case ev.GetTreeNonces() != nil:
		return false, s.sum(ctx, ev.GetTreeNonces())
	case ev.GetTreeSignature() != nil:
		raw, err := hex.DecodeString(ev.GetTreeSignature().Signature)
		if err != nil {
			return false, err
		}
		if n := s.nodes[ev.GetTreeSignature().Txid]; n != nil {
			n.Inputs[0].TaprootKeySpendSig = raw
		}
	case ev.GetBatchFinalization() != nil:
		return s.m.stopAt == "batchFinalization", s.sendForfeits(ctx, ev.GetBatchFinalization().CommitmentTx)
	case ev.GetBatchFinalized() != nil:
		s.out.txid = ev.GetBatchFinalized().CommitmentTxid
		s.collect()
		return true, nil
	case ev.GetBatchFailed() != nil:
		s.out.failed = ev.GetBatchFailed().Reason
		return true, nil
	}
	return false, nil
}

func (s *seat) started(ctx context.Context, ev *arkv1.BatchStartedEvent) (bool, error) {
	var mine []string
	for _, id := range s.ids {
		if h := sha256.Sum256([]byte(id)); slices.Contains(ev.IntentIdHashes, hex.EncodeToString(h[:])) {
			mine = append(mine, id)
		}
	}
	if len(mine) == 0 {
		return false, nil
	}
	s.out.batch = ev.Id
	s.conns = map[string]*psbt.Packet{}
	s.nodes, s.nonces, s.agg = map[string]*psbt.Packet{}, map[string]*musig2.Nonces{}, map[string][musig2.PubNonceSize]byte{}
	s.expiry = tapscript.NewDelay(uint32(ev.BatchExpiry))
	if s.m.noConfirm {
		return true, nil
	}
	for _, id := range mine {
		if _, err := s.p.ark.ConfirmRegistration(ctx, &arkv1.ConfirmRegistrationRequest{IntentId: id}); err != nil {
			return false, err
		}
	}
	return s.m.stopAt == "batchStarted", nil
}

func (s *seat) sendNonces(ctx context.Context) error {
	if s.m.noNonces || len(s.nodes) == 0 {
		return nil
	}
	req := &arkv1.SubmitTreeNoncesRequest{BatchId: s.out.batch, Pubkey: hexKey(s.p.cosigner), TreeNonces: map[string]string{}}
	for id := range s.nodes {
		n, err := musig2.GenNonces(musig2.WithPublicKey(s.p.cosigner.PubKey()))
		if err != nil {
			return err
		}
		s.nonces[id] = n
		req.TreeNonces[id] = hex.EncodeToString(n.PubNonce[:])
		if s.m.badNonce {
			req.TreeNonces[id] = strings.Repeat("05", 66)
		}
	}
	if s.m.fewNonces {
		for id := range req.TreeNonces {
			delete(req.TreeNonces, id)
			req.TreeNonces[strings.Repeat("00", 32)] = strings.Repeat("02", 66)
			break
		}
	}
	_, err := s.p.ark.SubmitTreeNonces(ctx, req)
	return err
}

func (s *seat) sum(ctx context.Context, ev *arkv1.TreeNoncesEvent) error {
	var list [][musig2.PubNonceSize]byte
	for _, v := range ev.Nonces {
		raw, err := hex.DecodeString(v)
		if err != nil || len(raw) != musig2.PubNonceSize {
			return fmt.Errorf("nonce %q", v)
		}
		list = append(list, [musig2.PubNonceSize]byte(raw))
	}
	agg, err := musig2.AggregateNonces(list)
	if err != nil {
		return err
	}
	s.agg[ev.Txid] = agg
	if len(s.agg) < len(s.nodes) || s.m.noSigs || s.signing {
		return nil
	}
	s.signing = true
	return s.sendSigs(ctx)
}

func (s *seat) sweepRoot() []byte {
	raw, err := hex.DecodeString(s.p.info().ForfeitPubkey)
	if err != nil {
		s.p.t.Fatal(err)
	}
	tree := makeTree(s.p.t, tapscript.Closure{Kind: tapscript.CSVMultisig, Keys: [][32]byte{[32]byte(raw[1:])}, Delay: s.expiry})
	h := tapscript.LeafHash(tree.Leaves[0])
	return h[:]
}

func (s *seat) sendSigs(ctx context.Context) error {
	req := &arkv1.SubmitTreeSignaturesRequest{BatchId: s.out.batch, Pubkey: hexKey(s.p.cosigner), TreeSignatures: map[string]string{}}
	root := s.sweepRoot()
	for id, p := range s.nodes {
		msg, err := s.sighash(p)
		if err != nil {
			return err
		}
		keys, err := tapscript.Cosigners(&p.Inputs[0])
		if err != nil {
			return err
		}
		sig, err := musig2.Sign(s.nonces[id].SecNonce, s.p.cosigner, s.agg[id], keys, msg,
			musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(root), musig2.WithFastSign())
		if err != nil {
			return err
		}
		b := sig.S.Bytes()
		if s.m.badSig {
			b[31] ^= 1
		}
		req.TreeSignatures[id] = hex.EncodeToString(b[:])
	}
	_, err := s.p.ark.SubmitTreeSignatures(ctx, req)
	return err
}

func (s *seat) sighash(p *psbt.Packet) ([32]byte, error) {
	at := p.UnsignedTx.TxIn[0].PreviousOutPoint
	parent := s.out.commitment
	if n := s.nodes[at.Hash.String()]; n != nil {
		parent = n
	}
	if parent == nil || int(at.Index) >= len(parent.UnsignedTx.TxOut) {
		return [32]byte{}, fmt.Errorf("nothing at %s", at)
	}
	out := parent.UnsignedTx.TxOut[at.Index]
	fetch := txscript.NewCannedPrevOutputFetcher(out.PkScript, out.Value)
	h, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(p.UnsignedTx, fetch), txscript.SigHashDefault, p.UnsignedTx, 0, fetch)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h), nil
}

// sendForfeits completes a forfeit per connector received and signs boarding
// inputs.
func (s *seat) sendForfeits(ctx context.Context, commitment string) error {
	s.out.commitment = decode(s.p.t, commitment)
	req := &arkv1.SubmitSignedForfeitTxsRequest{}
	var signBoarding bool
	for _, c := range s.coins {
		if i := slices.IndexFunc(s.out.commitment.UnsignedTx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == c.at }); i >= 0 {
			c.fill(s.p.t, &s.out.commitment.Inputs[i], false)
			signBoarding = true
			continue
		}
		if conn := s.conns[c.at.String()]; conn != nil {
			req.SignedForfeitTxs = append(req.SignedForfeitTxs, s.p.forfeit(c, conn, s.m.badForfeit))
		}
	}
	if signBoarding && !s.m.noBoarding {
		sign(s.p.t, s.out.commitment, s.coins)
		req.SignedCommitmentTx = encode(s.p.t, s.out.commitment)
	}
	if s.m.noForfeits {
		req.SignedForfeitTxs = nil
	}
	if len(req.SignedForfeitTxs) == 0 && req.SignedCommitmentTx == "" {
		return nil
	}
	_, err := s.p.ark.SubmitSignedForfeitTxs(ctx, req)
	return err
}

// forfeit signs a coin over to the operator with a connector as input 1.
func (p *party) forfeit(c coin, conn *psbt.Packet, spoil bool) string {
	p.t.Helper()
	a, err := address.DecodeAddress(p.info().ForfeitAddress, &chaincfg.RegressionNetParams)
	if err != nil {
		p.t.Fatal(err)
	}
	script, err := txscript.PayToAddrScript(a)
	if err != nil {
		p.t.Fatal(err)
	}
	connOut := conn.UnsignedTx.TxOut[0]
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.at, Sequence: wire.MaxTxInSequenceNum})
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: conn.UnsignedTx.TxHash()}, Sequence: wire.MaxTxInSequenceNum})
	tx.AddTxOut(&wire.TxOut{Value: c.out.Value + connOut.Value, PkScript: script})
	tx.AddTxOut(&wire.TxOut{PkScript: []byte{txscript.OP_1, txscript.OP_DATA_2, 0x4e, 0x73}})
	packet, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		p.t.Fatal(err)
	}
	c.fill(p.t, &packet.Inputs[0], false)
	packet.Inputs[1].WitnessUtxo = connOut
	sign(p.t, packet, []coin{c})
	if spoil {
		packet.Inputs[0].TaprootScriptSpendSig[0].Signature[63] ^= 1
	}
	return encode(p.t, packet)
}

// collect finds the new coins in the leaves and verifies every signature.
func (s *seat) collect() {
	tree := s.p.vtxoTree()
	root := s.sweepRoot()
	for id, n := range s.nodes {
		msg, err := s.sighash(n)
		if err != nil {
			s.p.t.Error(err)
			continue
		}
		keys, err := tapscript.Cosigners(&n.Inputs[0])
		if err != nil {
			s.p.t.Error(err)
			continue
		}
		agg, _, _, err := musig2.AggregateKeys(keys, true, musig2.WithTaprootKeyTweak(root))
		if err != nil {
			s.p.t.Error(err)
			continue
		}
		sig, err := schnorr.ParseSignature(n.Inputs[0].TaprootKeySpendSig)
		if !s.m.unchecked && (err != nil || !sig.Verify(msg[:], agg.FinalKey)) {
			s.p.t.Errorf("node %s is badly signed (%v)", id, err)
		}
		for i, o := range n.UnsignedTx.TxOut {
			if string(o.PkScript) == string(tree.PkScript()) {
				s.out.made = append(s.out.made, coin{at: wire.OutPoint{Hash: n.UnsignedTx.TxHash(), Index: uint32(i)}, out: o, tree: tree, key: s.p.key})
			}
		}
	}
}

// board gives a party one VTXO of sats.
func (p *party) board(ctx context.Context, sats int64) coin {
	p.t.Helper()
	out, err := p.settle(ctx, manners{}, []coin{p.fund(sats)}, p.pay(sats))
	if err != nil || out.failed != "" || len(out.made) != 1 {
		p.t.Fatalf("boarding: %v %q, %d coins", err, out.failed, len(out.made))
	}
	return out.made[0]
}
