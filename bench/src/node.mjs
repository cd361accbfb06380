// A module in V8 as a child process: `node node.mjs MODULE` says `ready`, then answers each `n` that it reads, one a line,
// with the bits of `run(n)` and the CPU time of the call in nanoseconds. It says `unsupported` instead, and ends, where
// this V8 does not know a feature of the module.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const bytes = readFileSync(process.argv[2]);
if (!WebAssembly.validate(bytes)) {
    console.log("unsupported");
    process.exit();
}
const { run } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
console.log("ready");

function bits(result) {
    if (typeof result === "bigint") return BigInt.asUintN(64, result);
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, result);
    return view.getBigUint64(0);
}

for await (const line of createInterface({ input: process.stdin })) {
    const before = process.cpuUsage();
    const result = run(Number(line));
    const { user, system } = process.cpuUsage(before);
    console.log(`${bits(result).toString(16)} ${(user + system) * 1000}`);
}
