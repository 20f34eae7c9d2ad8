// Fees, recoverable coins, assets.
import assert from "node:assert/strict";
import { board, list, outpoint } from "../lib/wallet.js";
import { until } from "../lib/process.js";
import { delegate, lastingWallet, operator, reaches, renewedCoin, soon, vigilTest } from "./harness.js";

const till = await lastingWallet(); // the fee's owner: not Vigil

vigilTest("a fee goes to the address that Vigil names", {
    flags: async () => ({ "fee-sats": 400, "fee-address": await till.getAddress() }),
}, async ({ vigil, wallet }) => {
    const alice = await wallet();
    const coin = await board(alice, operator, 100_000);
    await delegate(alice, [coin], soon(2));
    await reaches(alice, vigil, coin, "settled");
    assert.equal((await renewedCoin(alice, coin)).value, 99_600);
    await until("the fee", async () => (await till.getVtxos()).map((c) => c.value).join() === "400");
});

vigilTest("the operator's own fees are paid out of the coin", { needs: ["admin"] }, async ({ vigil, wallet }) => {
    const alice = await wallet();
    const coin = await board(alice, operator, 100_000);
    await operator.fees({ offchainInputFee: "200.0", offchainOutputFee: "0.0", onchainInputFee: "0.0", onchainOutputFee: "0.0" });
    try {
        await delegate(alice, [coin], soon(2));
        await reaches(alice, vigil, coin, "settled");
        assert.equal((await renewedCoin(alice, coin)).value, 99_800);
    } finally {
        await operator.fees();
    }
});

vigilTest("a swept coin is recovered, together with a live one and without a forfeit of its own", { needs: ["dev"] }, async ({ vigil, wallet }) => {
    const alice = await wallet();
    const live = await board(alice, operator, 40_000);
    let swept = await board(alice, operator, 30_000);
    await operator.sweep(swept);
    swept = await until("the wallet knowing that it is swept", async () =>
        (await alice.getVtxos({ withRecoverable: true })).find((c) => outpoint(c) === outpoint(swept) && c.virtualStatus.state === "swept"));
    await delegate(alice, [live, swept], soon(2));
    await reaches(alice, vigil, swept, "settled");
    assert.equal((await renewedCoin(alice, live, swept)).value, 70_000);
});

vigilTest("a coin that expired while it was delegated is renewed as recoverable", { needs: ["dev"] }, async ({ vigil, wallet }) => {
    const alice = await wallet();
    const coin = await board(alice, operator, 30_000);
    await delegate(alice, [coin], soon(4));
    await operator.sweep(coin);
    await vigil.kill();
    await vigil.start();
    await reaches(alice, vigil, coin, "settled");
    assert.equal((await renewedCoin(alice, coin)).value, 30_000);
});

vigilTest("coins whose batch expired and was swept, Vigil dead all the while, are recovered", { needs: ["long"], timeout: 1_800_000 }, async ({ vigil, wallet }) => {
    const [alice, bob] = [await wallet(), await wallet()];
    const [before, after] = [await board(alice, operator, 30_000), await board(bob, operator, 40_000)];
    await delegate(alice, [before], soon(30)); // with a forfeit, which will not be needed
    await vigil.kill();
    const swept = (w, coin) => until("the operator sweeping the batch", async () =>
        (await w.getVtxos({ withRecoverable: true })).find((c) => outpoint(c) === outpoint(coin) && c.virtualStatus.state === "swept"),
    { seconds: 1500, every: 5000 });
    await swept(alice, before);
    const late = await swept(bob, after);
    await vigil.start();
    await delegate(bob, [late], soon(2)); // without one
    await reaches(alice, vigil, before, "settled");
    await reaches(bob, vigil, late, "settled");
    assert.equal((await renewedCoin(alice, before)).value, 30_000);
    assert.equal((await renewedCoin(bob, late)).value, 40_000);
});

vigilTest("assets come through a renewal", {}, async ({ vigil, wallet }) => {
    const alice = await wallet();
    await board(alice, operator, 50_000);
    const { assetId } = await alice.assetManager.issue({ amount: 1_000n });
    const units = (coins) => coins.flatMap((c) => c.assets ?? []).filter((a) => a.assetId === assetId).reduce((sum, a) => sum + BigInt(a.amount), 0n);
    const coins = await until("the asset", async () => {
        const all = await alice.getVtxos();
        return units(all) === 1_000n && all;
    });
    await delegate(alice, coins, soon(2));
    await reaches(alice, vigil, coins[0], "settled");
    const renewed = await renewedCoin(alice, ...coins);
    assert.equal(renewed.value, coins.reduce((sum, c) => sum + c.value, 0));
    assert.equal(units([renewed]), 1_000n);
    assert.equal((await list(alice, vigil, renewed)).filter((d) => d.state === "settled").length, 1);
});
