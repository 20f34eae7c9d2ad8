// A stock wallet with Vigil as its delegate: its coins are renewed, whatever
// happens to Vigil in between.
import assert from "node:assert/strict";
import { board, list, outpoint } from "../lib/wallet.js";
import { until } from "../lib/process.js";
import { delegate, operator, reaches, renewedCoin, soon, vigilTest } from "./harness.js";

vigilTest("board, send, and renew by itself", {}, async ({ wallet }) => {
    const [alice, bob] = [await wallet(), await wallet()];
    const coin = await board(alice, operator, 60_000);
    await alice.send({ address: await bob.getAddress(), amount: 25_000 });
    const received = await until("Bob's coin", async () => (await bob.getVtxos())[0]);
    assert.equal(received.value, 25_000);
    const [change] = await until("Alice's change", async () => {
        const coins = await alice.getVtxos();
        return coins.length === 1 && outpoint(coins[0]) !== outpoint(coin) && coins;
    });
    assert.equal(change.value, 35_000);
    await bob.settle({ inputs: [received], outputs: [{ address: await bob.getAddress(), amount: 25_000n }] });
    const renewed = await renewedCoin(bob, received);
    assert.equal(renewed.value, 25_000);
});

vigilTest("one VTXO, Vigil killed while it is armed; settled by the chain's word; the renewed coin can be spent", {
    flags: { "esplora-url": `${operator.esplora}/api` },
}, async ({ vigil, wallet }) => {
    const [alice, bob] = [await wallet(), await wallet()];
    const coin = await board(alice, operator, 100_000);
    await delegate(alice, [coin], soon(3));
    const [held] = await list(alice, vigil, coin);
    assert.deepEqual([held.state, held.inputs], ["armed", [outpoint(coin)]]);
    await vigil.kill();
    await vigil.start();
    const done = await reaches(alice, vigil, coin, "settled");
    const renewed = await renewedCoin(alice, coin);
    assert.equal(renewed.value, coin.value);
    assert.deepEqual(renewed.virtualStatus.commitmentTxIds, [done.commitmentTxid]);
    await alice.send({ address: await bob.getAddress(), amount: 40_000 });
    await until("Bob's coin", async () => (await bob.getVtxos())[0]?.value === 40_000);
});

vigilTest("several wallets in one batch, Vigil killed while they are registered", {}, async ({ t, vigil, wallet }) => {
    const phones = [];
    for (let i = 0; i < 3; i++) {
        const w = await wallet();
        phones.push({ w, coin: await board(w, operator, 50_000 + i) });
    }
    // A batch starts with all of them or not at all, where that can be said.
    if (operator.admin) await operator.settings({ roundMinParticipantsCount: phones.length });
    const at = soon(2);
    for (const { w, coin } of phones) await delegate(w, [coin], at);
    await reaches(phones[0].w, vigil, phones[0].coin, ["registering", "registered", "joining"], { seconds: 30, every: 60 });
    await vigil.kill();
    await vigil.start();
    const batches = new Set();
    for (const { w, coin } of phones) {
        batches.add((await reaches(w, vigil, coin, "settled")).commitmentTxid);
        assert.equal((await renewedCoin(w, coin)).value, coin.value);
    }
    if (!operator.admin) return t.diagnostic(`in ${batches.size} batches`);
    await operator.settings({ roundMinParticipantsCount: 1 });
    assert.equal(batches.size, 1, "they shared one batch");
});

vigilTest("two VTXOs of one wallet become one", {}, async ({ vigil, wallet }) => {
    const [alice, bob] = [await wallet(), await wallet()];
    await board(alice, operator, 80_000);
    await alice.send({ address: await bob.getAddress(), amount: 20_000 });
    await until("Bob's first coin", async () => (await bob.getVtxos()).length === 1);
    await alice.send({ address: await bob.getAddress(), amount: 11_000 });
    const coins = await until("Bob's coins", async () => {
        const all = await bob.getVtxos();
        return all.length === 2 && all;
    });
    await delegate(bob, coins, soon(2));
    await reaches(bob, vigil, coins[0], "settled");
    assert.equal((await renewedCoin(bob, ...coins)).value, 31_000);
});

vigilTest("VTXOs of different expiry days are delegated apart, and renewed each", { needs: ["admin"] }, async ({ vigil, wallet }) => {
    const alice = await wallet();
    const near = await board(alice, operator, 70_000);
    await operator.settings({ vtxoTreeExpiry: 174_592 }); // two days more
    try {
        await operator.nextSession();
        const far = await board(alice, operator, 30_000);
        await delegate(alice, [near, far]);
        const armed = await list(alice, vigil, near);
        assert.deepEqual(armed.map((d) => d.inputs).sort(), [[outpoint(near)], [outpoint(far)]].sort());
        for (const d of armed) {
            const left = Number(d.expiresAt) - Number(d.validAt);
            assert.equal(d.state, "armed");
            assert.ok(left > 0 && left < 0.11 * 174_592, `${left} s before expiry`);
        }
        // The same coins, sooner: each replaces its own. The batch must last at
        // least nine tenths as long as the far one's did, so the expiry stays.
        await delegate(alice, [near], soon(2));
        await delegate(alice, [far], soon(2));
        assert.equal((await list(alice, vigil, near)).filter((d) => d.state !== "replaced").length, 2);
        for (const coin of [near, far]) await reaches(alice, vigil, coin, "settled");
        const values = await until("both renewed", async () => {
            const coins = await alice.getVtxos();
            return coins.length === 2 && coins.every((c) => ![outpoint(near), outpoint(far)].includes(outpoint(c))) && coins.map((c) => c.value);
        });
        assert.deepEqual(values.sort(), [30_000, 70_000]);
    } finally {
        await operator.settings({ vtxoTreeExpiry: 2048 });
    }
});
