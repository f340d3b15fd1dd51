// Runs a program for WASI in Node: its file, and its arguments.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [file, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [file, ...args], env: {} });
const { instance } = await WebAssembly.instantiate(await readFile(file), wasi.getImportObject());
wasi.start(instance);
