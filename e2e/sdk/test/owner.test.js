// What an owner may do to a delegate: replace it, see it, cancel it; and what a
// replayed body may not do.
import assert from "node:assert/strict";
import { RestArkProvider, RestDelegateProvider } from "@arkade-os/sdk";
import { ask, board, cancel, device, list, outpoint, prove, question } from "../lib/wallet.js";
import { post, until } from "../lib/process.js";
import { delegate, operator, reaches, renewedCoin, soon, vigilTest } from "./harness.js";

/** The stock provider, with a memory of what it sent. */
class Remembering extends RestDelegateProvider {
    sent = [];
    rejectReplace = false;
    async delegate(intent, forfeits) {
        this.sent.push([intent, forfeits]);
        return super.delegate(intent, forfeits, { rejectReplace: this.rejectReplace });
    }
    /** Sends a body again, as whoever overheard it could. */
    async replay(n) {
        return super.delegate(...this.sent[n], { rejectReplace: false });
    }
}

const states = async (w, vigil, coin) => (await list(w, vigil, coin)).map((d) => d.state).sort();

vigilTest("a newer delegate replaces, reject_replace refuses, an old body changes nothing", {}, async ({ vigil, wallet }) => {
    const provider = new Remembering(vigil.url);
    const alice = await wallet(device(), provider);
    const coin = await board(alice, operator, 90_000);

    await delegate(alice, [coin], soon(1500));
    const [first] = await list(alice, vigil, coin);
    provider.rejectReplace = true;
    await assert.rejects(delegate(alice, [coin], soon(1200)), /overlap|replac|covered/i);
    assert.deepEqual((await list(alice, vigil, coin)).map((d) => [d.id, d.state]), [[first.id, "armed"]]);

    provider.rejectReplace = false;
    await delegate(alice, [coin], soon(900));
    assert.deepEqual(await states(alice, vigil, coin), ["armed", "replaced"]);
    await provider.replay(0);
    const after = await list(alice, vigil, coin);
    assert.equal(after.find((d) => d.state === "armed").id !== first.id, true, "the old body did not come back");
    assert.equal(after.find((d) => d.id === first.id).state, "replaced");

    await vigil.kill();
    await vigil.start();
    await provider.replay(0);
    assert.deepEqual(await states(alice, vigil, coin), ["armed", "replaced"], "nor after a crash");

    await delegate(alice, [coin], soon(2));
    await reaches(alice, vigil, coin, "settled");
    const renewed = await renewedCoin(alice, coin);
    for (const n of [0, 2, 3]) {
        // It may be answered with its state, or that its coin is spent.
        await provider.replay(n).catch((error) => assert.match(error.message, /INPUT_SPENT/));
    }
    assert.equal((await list(alice, vigil, renewed)).some((d) => d.state === "armed"), false);
    assert.deepEqual((await alice.getVtxos()).map(outpoint), [outpoint(renewed)]);
});

vigilTest("only an owner sees delegates, and only with a proof made for this Vigil", {}, async ({ vigil, wallet }) => {
    const [alice, mallory] = [await wallet(), await wallet()];
    const coin = await board(alice, operator, 20_000);
    await delegate(alice, [coin], soon(1500));
    assert.equal((await ask(vigil, await question(alice, coin))).length, 1);

    // Mallory names Alice's coin but can only sign with a key of her own.
    await assert.rejects(async () => ask(vigil, await question(mallory, coin)), (e) => e.status === 400 || e.status === undefined);
    // A proof for the operator is no question to Vigil.
    const message = { type: "delete", expire_at: Math.floor(Date.now() / 1000) + 300 };
    await assert.rejects(post(`${vigil.url}/v1/delegates/list`, await prove(alice, message, coin)), { status: 400 });
    // Nor is one for another Vigil, or one from an hour ago.
    const { pubkey } = await alice.delegateProvider.getDelegateInfo();
    const texts = [
        { server: `02${"79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"}`, at: Math.floor(Date.now() / 1000) },
        { server: pubkey, at: Math.floor(Date.now() / 1000) - 3600 },
    ];
    for (const text of texts) {
        const signed = await prove(alice, JSON.stringify({ type: "vigil-list-delegates", ...text }), coin);
        await assert.rejects(post(`${vigil.url}/v1/delegates/list`, signed), { status: 400 });
    }
});

vigilTest("cancelled with an SDK-made proof while armed; the old body does not bring it back", {}, async ({ vigil, wallet }) => {
    const provider = new Remembering(vigil.url);
    const alice = await wallet(device(), provider);
    const coin = await board(alice, operator, 20_000);
    await delegate(alice, [coin], soon(1500));
    assert.equal((await cancel(alice, vigil, coin)).state, "cancelled");
    await provider.replay(0);
    assert.deepEqual(await states(alice, vigil, coin), ["cancelled"]);
    // The coin is free again, for a new delegate too.
    await delegate(alice, [coin], soon(2));
    await reaches(alice, vigil, coin, "settled");
    assert.equal((await renewedCoin(alice, coin)).value, 20_000);
});

vigilTest("cancelled while registered: the intent leaves the operator's queue, the coin can be spent", { needs: ["admin"] }, async ({ vigil, wallet }) => {
    const [alice, bob] = [await wallet(), await wallet()];
    const coin = await board(alice, operator, 20_000);
    await operator.settings({ roundMinParticipantsCount: 2 }); // it waits, registered
    try {
        await operator.nextSession();
        await delegate(alice, [coin], soon(1));
        await reaches(alice, vigil, coin, "registered", { seconds: 30, every: 100 });
        await assert.rejects(alice.send({ address: await bob.getAddress(), amount: 5_000 }), "the operator refuses a registered coin");
        await vigil.kill();
        await vigil.start();
        await cancel(alice, vigil, coin);
        await reaches(alice, vigil, coin, "cancelled", { seconds: 30, every: 100 });
        await until("an empty queue", async () => (await operator.queue()).length === 0, { seconds: 20 });
        await alice.send({ address: await bob.getAddress(), amount: 5_000 });
        await until("Bob's coin", async () => (await bob.getVtxos())[0]?.value === 5_000);
    } finally {
        await operator.settings({ roundMinParticipantsCount: 1 });
    }
});

vigilTest("the owner deletes the intent at the operator and spends the coin: the delegate ends after three batches without it", { needs: ["admin"] }, async ({ vigil, wallet }) => {
    const [alice, bob] = [await wallet(), await wallet()];
    const coin = await board(alice, operator, 20_000);
    await operator.settings({ roundMinParticipantsCount: 2 });
    try {
        await operator.nextSession();
        await delegate(alice, [coin], soon(1));
        await reaches(alice, vigil, coin, "registered", { seconds: 30, every: 100 });
        const message = { type: "delete", expire_at: Math.floor(Date.now() / 1000) + 60 };
        const { proof } = await prove(alice, message, coin);
        await new RestArkProvider(operator.ark).deleteIntent({ message, proof });
        await alice.send({ address: await bob.getAddress(), amount: 20_000 });
        await operator.settings({ roundMinParticipantsCount: 1 });
        for (let i = 0; i < 3; i++) await board(bob, operator, 10_000);
        await reaches(alice, vigil, coin, "spent", { seconds: 30, every: 250 });
    } finally {
        await operator.settings({ roundMinParticipantsCount: 1 });
    }
});
