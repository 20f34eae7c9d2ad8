// Many stock wallets at once: one pays them all in a single batch.
import { board, device, open, outpoint } from "./wallet.js";
import { until } from "./process.js";

/** Opens n wallets whose addresses name the delegate, and gives each one coin of sats. */
export async function wallets(n, operator, provider, sats) {
    const funder = await open(device(), operator);
    const all = [];
    for (let i = 0; i < n; i++) {
        const wallet = await open(device(), operator, provider);
        all.push({ wallet, address: await wallet.getAddress() });
    }
    // An intent is bounded by its proof's weight, so many are paid in parts.
    for (let from = 0; from < n; from += 50) {
        const part = all.slice(from, from + 50);
        const coin = await board(funder, operator, part.length * sats);
        await funder.settle({ inputs: [coin], outputs: part.map(({ address }) => ({ address, amount: BigInt(sats) })) });
    }
    for (const w of all) {
        w.coin = await until("a wallet's coin", async () => (await w.wallet.getVtxos())[0]);
        w.outpoint = outpoint(w.coin);
    }
    await funder.dispose();
    return all;
}

/** Delegates each wallet's coin, to be renewed at one time. */
export async function delegateAll(all, at) {
    for (const { wallet, address, coin } of all) {
        const { failed } = await (await wallet.getDelegateManager()).delegate([coin], address, at);
        if (failed.length > 0) throw failed[0].error;
    }
}
