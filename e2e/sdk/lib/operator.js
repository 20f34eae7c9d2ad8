// The operator that a suite runs against: one that is already there, or
// `vigil operator dev`, and what may be changed at it.
import { adminUrl, arkUrl, esploraUrl, sessionSeconds } from "./env.js";
import { post, startOperator } from "./process.js";

/** Returns the operator; dir is where a started one logs. */
export async function connect(dir) {
    const operator = arkUrl
        ? { ark: arkUrl, esplora: esploraUrl ?? "http://127.0.0.1:3000", admin: adminUrl, dev: false, stop: async () => {} }
        : { ...(await startOperator(dir, { session: `${sessionSeconds}s` })), dev: true };
    return {
        ...operator,
        /** Changes settings by arkd's names; numbers. */
        settings: (settings) =>
            post(`${operator.admin}/v1/admin/settings`, {
                settings: Object.fromEntries(Object.entries(settings).map(([k, v]) => [k, String(v)])),
            }),
        /** Waits until a session has begun that knows the settings of now. */
        nextSession: async () => {
            const { sessionDuration } = await (await fetch(`${operator.ark}/v1/info`)).json();
            await new Promise((resolve) => setTimeout(resolve, (Number(sessionDuration) * 1000) / 2));
        },
        /** Sets the fee programs (CEL), or none. */
        fees: (fees) => (fees ? post(`${operator.admin}/v1/admin/intentFees`, { fees }) : post(`${operator.admin}/v1/admin/intentFees/clear`, {})),
        /** The ids of the intents that wait for a batch. */
        queue: async () => (await (await fetch(`${operator.admin}/v1/admin/intents`)).json()).intents.map((i) => i.id),
        /** Makes a coin recoverable at once; only the development operator can. */
        sweep: (coin) => post(`${operator.admin}/v1/dev/sweep`, { outpoints: [`${coin.txid}:${coin.vout}`] }),
        /** Lets a coin's batch have ended long ago; only the development operator can. */
        expire: (coin) => post(`${operator.admin}/v1/dev/expire`, { outpoints: [`${coin.txid}:${coin.vout}`] }),
    };
}

/** Why a test that needs something of the operator cannot run here, or undefined. */
export function lacks(operator, needs = []) {
    if (needs.includes("dev") && !operator.dev) return "it makes coins expire or be swept at once, which only the development operator can";
    if (needs.includes("admin") && !operator.admin) return "it changes the operator's settings: set E2E_ADMIN_URL";
    if (needs.includes("long") && !process.env.E2E_LONG) return "it waits until a batch has really expired and is swept: set E2E_LONG=1 and an expiry of 512 s";
    return undefined;
}
