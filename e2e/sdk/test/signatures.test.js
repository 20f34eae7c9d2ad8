// Our signatures, every way in which we make them, held to an implementation that
// shares nothing with ours: @noble/curves, which the SDK brings.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { schnorr } from "@noble/curves/secp256k1.js";

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));

test("BIP-340, MuSig2 and FROST verify in noble", () => {
    const lines = execFileSync(process.env.E2E_SIGNATURES).toString().trim().split("\n").map((line) => JSON.parse(line));
    const ways = new Set();
    for (const { how, key, msg, sig } of lines) {
        ways.add(how.split(" ")[0]);
        assert(schnorr.verify(bytes(sig), bytes(msg), bytes(key)), how);
        const spoiled = bytes(sig);
        spoiled[40] ^= 1;
        assert(!schnorr.verify(spoiled, bytes(msg), bytes(key)), `${how}, spoiled`);
    }
    assert.deepEqual([...ways].sort(), ["BIP-340", "FROST", "MuSig2"]);
    assert.equal(lines.length, 8 + 6 + 12);
});
