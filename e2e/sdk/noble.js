// A 2-of-2 FROST signature, both sides and aggregation, in JavaScript: what the
// packages of the SDK bring with them. `run noble` runs the Go benchmark beside it.
import { existsSync } from "node:fs";

// The curves that have FROST are not those that the SDK itself uses.
const at = ["@scure/bip32/node_modules/@noble/curves", "@noble/curves"]
    .map((p) => new URL(`node_modules/${p}/secp256k1.js`, import.meta.url))
    .find((url) => existsSync(url));
const { schnorr_FROST: frost } = await import(at.href);
if (!frost) throw new Error(`${at.pathname} has no FROST`);

const ids = [1, 2].map(frost.Identifier.fromNumber);
const dealt = frost.trustedDealer({ min: 2, max: 2 }, ids);
const message = new Uint8Array(32).fill(7);

function signature() {
    const nonces = ids.map((id) => frost.commit(dealt.secretShares[id]));
    const commitments = nonces.map((n) => n.commitments);
    const shares = {};
    ids.forEach((id, i) => {
        shares[id] = frost.signShare(dealt.secretShares[id], dealt.public, nonces[i].nonces, commitments, message);
    });
    return frost.aggregate(dealt.public, commitments, message, shares);
}

// The fastest counts, as in the Go benchmark: other load cancels out.
let best = Infinity;
for (let i = 0; i < 300; i++) {
    const began = performance.now();
    signature();
    best = Math.min(best, performance.now() - began);
}
console.log(Math.round(best * 1000));
