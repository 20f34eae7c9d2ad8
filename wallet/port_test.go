package wallet_test

import (
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/wallet"
)

// The service is what the edge asks for, and its ports are what the house has.
var (
	_ rpc.Wallets       = (*wallet.Service)(nil)
	_ rpc.Replay        = (*wallet.Service)(nil)
	_ rpc.AnswerSigner  = (*wallet.Service)(nil)
	_ wallet.Ledger     = (*ledger.Ledger)(nil)
	_ wallet.Keys       = (*signer.Signer)(nil)
	_ wallet.Ceremonies = (*signer.Ceremonies)(nil)
	_ wallet.Host       = (*signer.Host)(nil)
	_ wallet.Operator   = (*operator.Client)(nil)
	_ wallet.Hub        = (*notify.Hub)(nil)
)
