// Many stock wallets with one Vigil, and what it costs or survives:
//
//	many.js N                 N delegates, in one batch where the operator can be told to
//	                          wait for all: processor time and memory of Vigil
//	many.js N --kill-at P     P "answer": between the operator's answer to a registration and
//	                          Vigil's write (needs E2E_VIGIL_CRASH, built with -tags crashpoints);
//	                          P "write": after the write; P "all": when all are registered
//
// E2E_DELEGATE_URL measures another delegate service instead, E2E_DELEGATE_PID its process.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { RestDelegateProvider, RestIndexerProvider } from "@arkade-os/sdk";
import { scratch, until, Vigil } from "./lib/process.js";
import { connect } from "./lib/operator.js";
import { delegateAll, wallets } from "./lib/many.js";

const n = Number(process.argv[2] ?? "10");
const killAt = process.argv.includes("--kill-at") ? process.argv[process.argv.indexOf("--kill-at") + 1] : undefined;
const say = (line) => process.stdout.write(`${new Date().toISOString().slice(11, 23)} ${line}\n`);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const ticks = 100; // of /proc, a second

/** Processor milliseconds and peak resident megabytes of a process. */
function usage(pid) {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return { cpu: ((Number(fields[11]) + Number(fields[12])) * 1000) / ticks, peak: Number(/VmHWM:\s+(\d+)/.exec(status)[1]) / 1024 };
}

const { dir, remove } = scratch();
const operator = await connect(dir);
const { sessionDuration } = await (await fetch(`${operator.ark}/v1/info`)).json();
const session = Number(sessionDuration);
const other = process.env.E2E_DELEGATE_URL;
const vigil = other
    ? undefined
    : await (await new Vigil(dir, operator.ark, { "rate-per-source": 1000, "burst-per-source": 1000, "ban-threshold": process.env.E2E_BAN ?? 3 }).init()).start();
const pid = () => vigil?.pid ?? Number(process.env.E2E_DELEGATE_PID);

/** The points that one start of the crash build passes before anything is due. */
async function bootPoints() {
    const log = `${dir}/points`;
    const probe = crash({ VIGIL_CRASH_LOG: log });
    await sleep(3000);
    probe.kill("SIGKILL");
    await new Promise((resolve) => probe.once("exit", resolve));
    try {
        return readFileSync(log, "utf8").trim().split("\n").length;
    } catch {
        return 0; // it passed none
    }
}

function crash(env) {
    const args = ["--log", "debug", "serve", ...vigil.base, "--listen", `127.0.0.1:${vigil.port}`, ...vigil.flags];
    return spawn(process.env.E2E_VIGIL_CRASH, args, { stdio: "ignore", env: { ...process.env, ...env } });
}

async function killed() {
    await vigil.stop();
    const boot = await bootPoints();
    // It is off until all are due, so that it takes them all at once.
    const due = Math.max(...(await delegates()).map((d) => d.next_attempt)) + 1;
    await sleep(Math.max(0, due * 1000 - Date.now()));
    if (killAt === "all") {
        // No batch may take some of them before the kill.
        if (operator.admin) await operator.settings({ roundMinParticipantsCount: n });
        await vigil.start();
        await until("all being registered", async () => (await delegates()).every((d) => d.state === "registered"), { seconds: session, every: 20 });
        await vigil.kill();
        if (operator.admin) await operator.settings({ roundMinParticipantsCount: 1 });
        return say("killed by SIGKILL with all registered");
    }
    // due: two points; registering: two; then the first "registered".
    const at = boot + 5 + (killAt === "write" ? 1 : 0);
    const victim = crash({ VIGIL_CRASH_AT: String(at), VIGIL_CRASH_LOG: `${dir}/passed` });
    const [, signal] = await new Promise((resolve) => victim.once("exit", (...how) => resolve(how)));
    say(`killed by ${signal} at point ${at}: ${readFileSync(`${dir}/passed`, "utf8").trim().split("\n").at(-1)}`);
}

/** All delegates, from Vigil's own admin command. */
async function delegates() {
    return (await vigil.run("delegates", "list")).delegates;
}
const tally = (found) => Object.entries(Object.groupBy(found, (d) => d.state)).map(([s, all]) => `${all.length} ${s}`).join(", ");

say(`session ${session} s; ${n} wallets`);
const all = await wallets(n, operator, new RestDelegateProvider(other ?? vigil.url), 20_000);
say("each has a coin");
const before = usage(pid());
const at = new Date(Date.now() + 12_000 + n * 150);
await delegateAll(all, at);
const taken = usage(pid());
say(`delegated: ${(taken.cpu - before.cpu) / n} ms of processor for each intake; due at ${at.toISOString().slice(11, 19)}`);
await Promise.all(all.map(({ wallet }) => wallet.dispose()));

// From here on a batch starts with all of them or not at all.
const together = operator.admin && !killAt;
if (together) await operator.settings({ roundMinParticipantsCount: n });

let from = taken.cpu;
if (killAt) {
    await killed();
    say(`states after the kill: ${tally(await delegates())}; queued at the operator: ${operator.admin ? (await operator.queue()).length : "?"}`);
    await sleep(2000);
    await vigil.start();
    from = 0;
    say("started again");
} else {
    while (Date.now() < at) await sleep(100);
}
const begun = Date.now();
const indexer = new RestIndexerProvider(operator.ark);
const batches = new Map();
await until("every coin settled", async () => {
    for (const w of all.filter((w) => !w.batch)) {
        const { vtxos } = await indexer.getVtxos({ outpoints: [{ txid: w.coin.txid, vout: w.coin.vout }] });
        if (!vtxos[0].settledBy) return false;
        w.batch = vtxos[0].settledBy;
        batches.set(w.batch, (batches.get(w.batch) ?? 0) + 1);
    }
    return true;
}, { seconds: session * 8, every: 500 }).catch((error) => say(error.message));
if (together) await operator.settings({ roundMinParticipantsCount: 1 });
const renewed = all.filter((w) => w.batch).length;
const seconds = (Date.now() - begun) / 1000;
await sleep(3000);
const end = usage(pid());
say(`renewed ${renewed} of ${n} after ${seconds.toFixed(1)} s (${(seconds / session).toFixed(1)} sessions), in batches of ${[...batches.values()].join(", ")}`);
say(`processor since it was due: ${((end.cpu - from) / n).toFixed(1)} ms for each; with intake ${((end.cpu - from + taken.cpu - before.cpu) / n).toFixed(1)} ms; peak memory ${end.peak.toFixed(0)} MB`);
if (vigil) {
    await until("every delegate settled", async () => (await delegates()).every((d) => d.state === "settled"), { seconds: 30, every: 500 });
    await vigil.kill();
    const { found, ...searched } = await vigil.leaks();
    await vigil.fsck();
    say(`leaks found: ${found.length} (${searched.secrets_searched} secrets, ${searched.bytes_searched} bytes, canary ${searched.canary_found}); fsck clean`);
}
await operator.stop();
if (renewed === n) remove();
else say(`what was written is kept in ${dir}`);
process.exit(renewed === n ? 0 : 1);
