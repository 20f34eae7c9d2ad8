// One operator for a file of tests, a fresh Vigil for each test. Each ends
// with the leak search and with fsck over what its Vigil left.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { RestDelegateProvider } from "@arkade-os/sdk";
import { connect, lacks } from "../lib/operator.js";
import { scratch, until, Vigil } from "../lib/process.js";
import { ask, device, open, question } from "../lib/wallet.js";

const shared = scratch();
/** The operator of this file. */
export const operator = await connect(shared.dir);
const lasting = [];
after(async () => {
    await Promise.all(lasting.map((w) => w.dispose()));
    await operator.stop();
    shared.remove();
});

/** A wallet without a delegate that lasts as long as the file's tests. */
export async function lastingWallet() {
    const opened = await open(device(), operator);
    lasting.push(opened);
    return opened;
}

/** A test with a Vigil of its own. needs: "admin", "dev"; flags: of `vigil serve`. */
export function vigilTest(name, { needs, flags, timeout = 120_000 }, body) {
    test(name, { skip: lacks(operator, needs), timeout }, async (t) => {
        const { dir, remove } = scratch();
        const wallets = [];
        const vigil = await new Vigil(dir, operator.ark, typeof flags === "function" ? await flags() : flags).init();
        await vigil.start();
        const wallet = async (phone = device(), provider = new RestDelegateProvider(vigil.url)) => {
            const opened = await open(phone, operator, provider);
            wallets.push(opened);
            return opened;
        };
        try {
            await body({ t, vigil, wallet });
            await vigil.kill(); // more lies about than after a graceful stop
            const report = await vigil.leaks();
            assert.deepEqual(report.found, []);
            assert.equal(report.canary_found, true);
            assert.ok(report.secrets_searched >= 2 && report.bytes_searched > 0);
            await vigil.fsck();
            t.diagnostic(`${report.secrets_searched} secrets not found in ${report.bytes_searched} bytes; fsck clean`);
            remove();
        } catch (error) {
            t.diagnostic(`what was written is kept in ${dir}`);
            throw error;
        } finally {
            await Promise.all(wallets.map((w) => w.dispose().catch(() => {})));
            await vigil.kill();
        }
    });
}

/** Delegates with the SDK and fails unless all of it was taken. */
export async function delegate(wallet, coins, at) {
    const { delegated, failed } = await (await wallet.getDelegateManager()).delegate(coins, await wallet.getAddress(), at);
    if (failed.length > 0) throw failed[0].error;
    assert.equal(delegated.length, coins.length);
}

export const soon = (seconds) => new Date(Date.now() + seconds * 1000);

/** Waits until the one live or ended delegate that covers coin has a state. */
export async function reaches(wallet, vigil, coin, states, options = { seconds: 90, every: 250 }) {
    const wanted = [states].flat();
    let asked = await question(wallet, coin);
    let since = Date.now();
    let last;
    return until(`a delegate that is ${wanted}`, async () => {
        if (Date.now() - since > 30_000) {
            asked = await question(wallet, coin);
            since = Date.now();
        }
        const found = (await ask(vigil, asked)).filter((d) => d.inputs.includes(`${coin.txid}:${coin.vout}`));
        last = found.map((d) => `${d.state} ${d.last_error?.code ?? d.lastError?.code ?? ""}`).join(",");
        const hit = found.find((d) => wanted.includes(d.state));
        if (!hit) throw new Error(`it is ${last}`);
        return hit;
    }, options);
}

/** Waits until the wallet sees that coin is gone and exactly one new one is there, and returns it. */
export async function renewedCoin(wallet, ...before) {
    const old = before.map((c) => `${c.txid}:${c.vout}`);
    return until("the renewed coin in the wallet", async () => {
        const coins = await wallet.getVtxos();
        return coins.length === 1 && !old.includes(`${coins[0].txid}:${coins[0].vout}`) && coins[0];
    }, { seconds: 30, every: 250 });
}
