// Child processes: the development operator and Vigil, each from the vigil
// executable. Only processes that were started here are ever ended.
import { spawn, execFile } from "node:child_process";
import { createServer } from "node:net";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { promisify } from "node:util";
import { tmpdir } from "node:os";
import path from "node:path";
import { leaksBin, vigilBin } from "./env.js";

const exec = promisify(execFile);

/** A port that is free now; the kernel hands it out again only when it must. */
export async function freePort() {
    const server = createServer();
    await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

/** Asks again until ask gives something true, or throws what it was waiting for. */
export async function until(what, ask, { seconds = 60, every = 100 } = {}) {
    const deadline = Date.now() + seconds * 1000;
    let last;
    for (;;) {
        try {
            const answer = await ask();
            if (answer) return answer;
            last = undefined;
        } catch (error) {
            last = error;
        }
        if (Date.now() > deadline) {
            throw new Error(`${what}: not within ${seconds} s${last ? `; last: ${last.message}` : ""}`);
        }
        await new Promise((resolve) => setTimeout(resolve, every));
    }
}

/** Posts JSON; an answer that is not 2xx is an error with its status and text. */
export async function post(url, body) {
    const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw Object.assign(new Error(`${url}: ${response.status}: ${text}`), { status: response.status, text });
    return text ? JSON.parse(text) : {};
}

const answers = (url) => async () => (await fetch(url)).ok;

class Child {
    constructor(args, logPath) {
        this.logPath = logPath;
        const log = openSync(logPath, "a", 0o600);
        this.process = spawn(vigilBin, args, { stdio: ["ignore", log, log] });
        closeSync(log);
        process.once("exit", () => this.process.kill("SIGKILL")); // none outlives the run
        this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    }
    get pid() {
        return this.process.pid;
    }
    /** Waits until url answers; a process that ended meanwhile is an error. */
    async ready(url) {
        let ended = false;
        this.ended.then(() => (ended = true));
        await until(url, async () => {
            if (ended) return true;
            return answers(url)();
        }, { seconds: 30, every: 30 });
        if (ended) throw new Error(`the process ended at once:\n${readFileSync(this.logPath, "utf8")}`);
    }
    async end(signal) {
        this.process.kill(signal);
        await this.ended;
    }
}

/** A folder of this run that is removed at its end. */
export function scratch() {
    const dir = mkdtempSync(path.join(tmpdir(), "vigil-sdk-"));
    return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Starts `vigil operator dev` and returns its URLs. */
export async function startOperator(dir, flags = {}) {
    const [ark, esplora, admin] = [await freePort(), await freePort(), await freePort()];
    const args = ["operator", "dev", "--listen", `127.0.0.1:${ark}`, "--esplora", `127.0.0.1:${esplora}`, "--admin", `127.0.0.1:${admin}`];
    for (const [name, value] of Object.entries(flags)) args.push(`--${name}`, String(value));
    const child = new Child(args, path.join(dir, "operator.log"));
    await child.ready(`http://127.0.0.1:${ark}/v1/info`);
    return {
        ark: `http://127.0.0.1:${ark}`,
        esplora: `http://127.0.0.1:${esplora}`,
        admin: `http://127.0.0.1:${admin}`,
        stop: () => child.end("SIGTERM"),
    };
}

/** One Vigil: its directories, and the process when it runs. */
export class Vigil {
    constructor(dir, operator, flags = {}) {
        this.dataDir = path.join(dir, "vigil");
        this.logPath = path.join(dir, "vigil.log");
        this.base = ["--data-dir", this.dataDir, "--operator-url", operator];
        this.flags = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    }
    /** Makes the stores and the service key. */
    async init() {
        await exec(vigilBin, ["init", ...this.base]);
        this.port = await freePort();
        return this;
    }
    get url() {
        return `http://127.0.0.1:${this.port}`;
    }
    get pid() {
        return this.child.pid;
    }
    async start() {
        this.child = new Child(["--log", "debug", "serve", ...this.base, "--listen", `127.0.0.1:${this.port}`, ...this.flags], this.logPath);
        await this.child.ready(`${this.url}/healthz`);
        return this;
    }
    /** Ends the process as a power cut does. */
    async kill() {
        await this.child.end("SIGKILL");
    }
    /** Ends the process gracefully. */
    async stop() {
        await this.child.end("SIGTERM");
    }
    /** What the leak rule says of everything that this Vigil stored and logged; it must be stopped. */
    async leaks() {
        const { stdout } = await exec(leaksBin, [this.dataDir, this.logPath]);
        return JSON.parse(stdout);
    }
    /** Runs a command of `vigil` on these stores and returns what it prints. */
    async run(...command) {
        const { stdout } = await exec(vigilBin, ["--json", ...command, "--data-dir", this.dataDir], { maxBuffer: 64 << 20 });
        return JSON.parse(stdout);
    }
    /** Whether `vigil fsck` finds the stores sane; it must be stopped. */
    async fsck() {
        return this.run("fsck");
    }
}
