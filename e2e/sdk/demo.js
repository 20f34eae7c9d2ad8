// The main job with the unmodified SDK as the wallet: coins are delegated to
// Vigil, Vigil is killed with SIGKILL, started again, and the coins are renewed
// in a batch, with no secret in its key-value store.
import { arkUrl, esploraUrl } from "./lib/env.js";
import { scratch, startOperator, until, Vigil } from "./lib/process.js";
import { ask, board, device, list, open, outpoint, question } from "./lib/wallet.js";
import { RestDelegateProvider, sdkVersion } from "@arkade-os/sdk";

const json = process.argv.includes("--json");
const say = (line) => (json ? process.stderr : process.stdout).write(`${line}\n`);
const started = Date.now();
const { dir, remove } = scratch();
const out = { renewed: false };
let operator, vigil;

async function story() {
    operator = arkUrl ? { ark: arkUrl, esplora: esploraUrl } : await startOperator(dir, { session: "4s" });
    say(arkUrl ? `The Ark operator is ${arkUrl}.` : `An Ark operator runs with a chain of its own (${operator.ark}), sessions of 4 s.`);
    vigil = await (await new Vigil(dir, operator.ark).init()).start();
    out.pid_before = vigil.pid;
    say(`Vigil runs as process ${vigil.pid} at ${vigil.url}.`);

    const phone = device();
    let wallet = await open(phone, operator, new RestDelegateProvider(vigil.url));
    say(`A stock wallet (@arkade-os/sdk ${sdkVersion}) takes it as its delegate: its address is ${await wallet.getAddress()}.`);
    const coin = await board(wallet, operator, 100_000);
    out.vtxo_before = outpoint(coin);
    say(`It boarded ${coin.value} sats: VTXO ${out.vtxo_before}.`);

    const { delegated, failed } = await (await wallet.getDelegateManager()).delegate([coin], await wallet.getAddress(), new Date(Date.now() + 2000));
    if (failed.length || delegated.length !== 1) throw failed[0]?.error ?? new Error("the SDK delegated nothing");
    say("It signed the renewal ahead and handed it to Vigil.");

    const asked = await question(wallet, coin);
    const inFlight = ["registering", "registered", "joining", "submitted", "settled"];
    out.killed_at_state = await until("Vigil registering the intent", async () => {
        const [{ state }] = await ask(vigil, asked);
        return inFlight.includes(state) && state;
    });
    await vigil.kill();
    if (out.killed_at_state === "settled") throw new Error("the batch ended before Vigil could be killed");
    say(`Vigil is killed with SIGKILL while the delegate is ${out.killed_at_state}. The wallet is off from here on.`);
    await wallet.dispose();

    await vigil.start();
    out.pid_after = vigil.pid;
    say(`Vigil is started again as process ${vigil.pid}, with nothing but what it had stored.`);
    await until("the renewal", async () => (await list(wallet, vigil, coin))[0].state === "settled", { seconds: 120, every: 500 });

    wallet = await open(phone, operator, new RestDelegateProvider(vigil.url));
    const [renewed, ...others] = await wallet.getVtxos();
    if (others.length) throw new Error(`the wallet has ${others.length + 1} coins`);
    out.vtxo_after = outpoint(renewed);
    out.batch = renewed.virtualStatus.commitmentTxIds[0];
    out.renewed = out.vtxo_after !== out.vtxo_before && renewed.value === coin.value;
    say(`The wallet is on again and finds its coin renewed: VTXO ${out.vtxo_after}, ${renewed.value} sats, in batch ${out.batch}.`);
    await wallet.dispose();

    await vigil.stop();
    const { found, ...searched } = await vigil.leaks();
    Object.assign(out, searched, { secret_bytes_found_in_kv: found.length });
    say(`${out.secrets_searched} secrets were looked for in ${out.bytes_searched} bytes of store and log, in every encoding: ${found.length} found. A planted one was found: ${out.canary_found}.`);
    if (!out.renewed) throw new Error("the coin was not renewed");
    out.seconds = (Date.now() - started) / 1000;
    say(`Done in ${out.seconds.toFixed(1)} s.`);
    if (json) console.log(JSON.stringify(out, null, 2));
}

let code = 0;
try {
    await story();
} catch (error) {
    console.error(error);
    console.error(`What was written is kept in ${dir}.`);
    code = 1;
}
for (const end of [() => vigil?.kill(), () => operator?.stop?.(), () => code || remove()]) {
    try {
        await end();
    } catch {
        code ||= 1;
    }
}
process.exit(code);
