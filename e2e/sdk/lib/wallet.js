// Stock wallets: the unmodified SDK, pointed at an operator and at Vigil.
import { EventSource } from "eventsource";
import { base64 } from "@scure/base";
import {
    EsploraProvider,
    InMemoryContractRepository,
    InMemoryWalletRepository,
    Intent,
    SingleKey,
    Wallet,
} from "@arkade-os/sdk";
import { post, until } from "./process.js";

globalThis.EventSource ??= EventSource; // the SDK wants a global one, which Node lacks

/** A wallet's key and storage, from which it can be opened again. */
export function device() {
    return {
        identity: SingleKey.fromRandomBytes(),
        storage: { walletRepository: new InMemoryWalletRepository(), contractRepository: new InMemoryContractRepository() },
    };
}

/** Opens a wallet; with a delegate provider its address names that delegate. */
export async function open({ identity, storage }, operator, delegateProvider) {
    return Wallet.create({
        identity,
        storage,
        arkServerUrl: operator.ark,
        onchainProvider: new EsploraProvider(`${operator.esplora}/api`, { forcePolling: true, pollingInterval: 500 }),
        delegateProvider,
        settlementConfig: false,
    });
}

/** Pays sats to an address on chain. */
export async function faucet(operator, address, sats) {
    await post(`${operator.esplora}/faucet`, { address, sats });
}

/** Pays the wallet on chain and boards: afterwards it has one more VTXO of sats. */
export async function board(wallet, operator, sats) {
    await faucet(operator, await wallet.getBoardingAddress(), sats);
    const inputs = await until("a confirmed boarding coin", async () => {
        const coins = (await wallet.getBoardingUtxos()).filter((c) => c.status.confirmed);
        return coins.length > 0 && coins;
    });
    const amount = inputs.reduce((sum, c) => sum + BigInt(c.value), 0n);
    const txid = await wallet.settle({ inputs, outputs: [{ address: await wallet.getAddress(), amount }] });
    return until("the boarded VTXO", async () => (await wallet.getVtxos()).find((v) => v.virtualStatus.commitmentTxIds?.[0] === txid));
}

export const outpoint = (v) => `${v.txid}:${v.vout}`;

/** Signs an intent over a coin with the SDK: any message text, no outputs. */
export async function prove(wallet, message, coin) {
    const proof = await wallet.identity.sign(Intent.create(message, [coin], []));
    return { message: typeof message === "string" ? message : Intent.encodeMessage(message), proof: base64.encode(proof.toPSBT()) };
}

/** Signs the question for one's delegates; it is good for a minute. */
export async function question(wallet, coin) {
    const { pubkey } = await wallet.delegateProvider.getDelegateInfo();
    return prove(wallet, JSON.stringify({ type: "vigil-list-delegates", server: pubkey, at: Math.floor(Date.now() / 1000) }), coin);
}

/** The delegates that Vigil holds on the scripts that the question proves, as their owner may see them. */
export async function ask(vigil, signed) {
    return (await post(`${vigil.url}/v1/delegates/list`, signed)).delegates;
}

/** The delegates on the coin's script. */
export async function list(wallet, vigil, coin) {
    return ask(vigil, await question(wallet, coin));
}

/** Drops the delegate that covers coin. */
export async function cancel(wallet, vigil, coin) {
    const message = { type: "delete", expire_at: Math.floor(Date.now() / 1000) + 300 };
    return post(`${vigil.url}/v1/delegates/cancel`, await prove(wallet, message, coin));
}
