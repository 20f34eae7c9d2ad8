package ark

// Note says whether the coin is a note: the operator's own promise, which no
// commitment transaction stands behind.
func (v VTXO) Note() bool { return len(v.CommitmentTxs) == 0 }

// Expired says whether the coin's batch has expired at now (unix seconds).
func (v VTXO) Expired(now int64) bool { return now > v.ExpiresAt }

// Recoverable says whether the operator would renew the coin at now without a
// forfeit: swept, or expired and still unspent (protocol section 7.4). An
// unrolled coin is on chain and not recoverable.
func (v VTXO) Recoverable(now int64) bool {
	return !v.Spent && !v.Unrolled && (v.Swept || v.Expired(now))
}

// NeedsForfeit says whether a batch at now asks a forfeit for the coin
// (protocol section 5.6): not for swept, expired, unrolled coins and notes.
func (v VTXO) NeedsForfeit(now int64) bool {
	return !v.Swept && !v.Unrolled && !v.Note() && !v.Expired(now)
}

// SubDust says whether the amount is below dust. The operator keeps such a coin
// as swept, its output being an OP_RETURN, but reports it, and wants it in a
// proof, with the P2TR script of its key.
func (v VTXO) SubDust(dust int64) bool { return v.Amount < dust }
