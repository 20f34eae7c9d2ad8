// A stock Arkade wallet that lets Vigil keep its coins alive while it is off.
//   ARK=http://127.0.0.1:7070 ESPLORA=http://127.0.0.1:3000/api VIGIL=http://127.0.0.1:7002 node wallet.ts
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { EsploraProvider, InMemoryContractRepository, InMemoryWalletRepository, RestDelegateProvider, SingleKey, Wallet } from "@arkade-os/sdk";
import { EventSource } from "eventsource";

globalThis.EventSource ??= EventSource as never; // the SDK wants a global one, which Node lacks
const { ARK = "http://127.0.0.1:7070", ESPLORA = "http://127.0.0.1:3000/api", VIGIL = "http://127.0.0.1:7002", KEY = "wallet.key" } = process.env;

// The wallet's key. Vigil never sees it: what it gets is signed ahead.
if (!existsSync(KEY)) writeFileSync(KEY, await SingleKey.fromRandomBytes().toHex(), { mode: 0o600 });

// The one line that matters: with a delegate provider the wallet's address has one more leaf, for owner, operator and
// Vigil together. Coins on it can be renewed by what the owner signed, and go nowhere else.
const wallet = await Wallet.create({
    identity: SingleKey.fromHex(readFileSync(KEY, "utf8").trim()),
    storage: { walletRepository: new InMemoryWalletRepository(), contractRepository: new InMemoryContractRepository() },
    arkServerUrl: ARK,
    onchainProvider: new EsploraProvider(ESPLORA, { forcePolling: true, pollingInterval: 2000 }),
    delegateProvider: new RestDelegateProvider(VIGIL),
    settlementConfig: false,
});
console.log("receive on Ark:  ", await wallet.getAddress());
console.log("receive on chain:", await wallet.getBoardingAddress());

// Coins that arrived on chain become VTXOs first.
const boarding = (await wallet.getBoardingUtxos()).filter((coin) => coin.status.confirmed);
if (boarding.length > 0) {
    const amount = boarding.reduce((sum, coin) => sum + BigInt(coin.value), 0n);
    console.log("boarded in", await wallet.settle({ inputs: boarding, outputs: [{ address: await wallet.getAddress(), amount }] }));
}

// Sign the renewal of every coin ahead and hand it over. Run this again whenever coins arrived or were renewed: what is
// signed later takes the place of what was signed before. From here on the wallet may be off.
const manager = await wallet.getDelegateManager();
const { delegated, failed } = await manager!.delegate(await wallet.getVtxos(), await wallet.getAddress());
console.log(`${delegated.length} coins are in Vigil's care`, failed.length ? failed : "");
await wallet.dispose();
process.exit(failed.length ? 1 : 0);
