package arktest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vigil-ark/vigil/arktest/internal/code"
)

// crime names why a script is convicted.
type crime string

// arkd's crimes.
const (
	crimeNonces     crime = "Musig2NonceSubmission"
	crimeSigs       crime = "Musig2SignatureSubmission"
	crimeBadSig     crime = "Musig2InvalidSignature"
	crimeForfeit    crime = "ForfeitSubmission"
	crimeBadForfeit crime = "ForfeitInvalidSignature"
)

// errBanned is the cause of a refusal by ban.
var errBanned = errors.New("is banned")

// convictScripts holds a crime against scripts.
func (p *process) convictScripts(r *round, scripts map[string]string, c crime) {
	now := p.op.clock.Now()
	var list []Conviction
	for script, reason := range scripts {
		list = append(list, Conviction{
			Script: script, Crime: string(c), Batch: r.id, Reason: reason, At: now, Expires: now.Add(r.set.BanDuration),
		})
	}
	p.op.store.convict(list...)
	p.op.rec.convicted(list)
}

// convictCosigners holds a cosigner's crime against the scripts of all inputs
// of every intent that lists the key, whoever those belong to.
func (p *process) convictCosigners(r *round, keys map[string]string, c crime) {
	for key, reason := range keys {
		for _, in := range r.joined {
			if !slices.Contains(in.cosigners, key) {
				continue
			}
			scripts := map[string]string{}
			for _, b := range in.boarding {
				scripts[hex.EncodeToString(b.pkScript)] = reason
			}
			for _, v := range in.inputs {
				scripts[hex.EncodeToString(v.PkScript())] = reason
			}
			p.convictScripts(r, scripts, c)
		}
	}
}

// checkBan refuses a script with as many active convictions as the threshold.
func (op *Operator) checkBan(set Settings, script []byte, outpoint string) error {
	if set.BanThreshold <= 0 {
		return nil
	}
	list := op.store.active(script, op.clock.Now())
	if len(list) < set.BanThreshold {
		return nil
	}
	reasons := make([]string, len(list))
	for i, c := range list {
		reasons[i] = c.Crime + ": " + c.Reason
	}
	return code.Banned.New(code.Outpoint(outpoint), "script %x %w by %d convictions: %s",
		script, errBanned, len(list), strings.Join(reasons, ", "))
}

// Pardon removes every conviction of a script given in hex.
func (op *Operator) Pardon(script string) error {
	if _, err := hex.DecodeString(script); err != nil {
		return fmt.Errorf("script: %w", err)
	}
	op.store.mu.Lock()
	defer op.store.mu.Unlock()
	delete(op.store.convictions, script)
	return nil
}
