// Where everything is. Set E2E_ARK_URL to run against an operator that is
// already there; without it `vigil operator dev` is started for the run.

function required(name) {
    const value = process.env[name];
    if (!value) throw new Error(`${name} is not set; start this with ./e2e/sdk/run`);
    return value;
}

/** The vigil executable. */
export const vigilBin = required("E2E_VIGIL");
/** The program that looks for secrets in what a run left behind. */
export const leaksBin = required("E2E_LEAKS");
/** A running operator's REST base URL, or undefined. */
export const arkUrl = process.env.E2E_ARK_URL;
/** Esplora's base URL at that operator's chain, without /api; POST /faucet pays from it. */
export const esploraUrl = process.env.E2E_ESPLORA_URL;
/** That operator's admin REST base URL, when its settings may be changed. */
export const adminUrl = process.env.E2E_ADMIN_URL;
/** Seconds of one session; only for the operator that is started here. */
export const sessionSeconds = Number(process.env.E2E_SESSION ?? "5");
