// Bundles the views into the Python package: `npm ci && npm run build`. The result is committed; users need no Node.
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";

const out = process.argv[2] ?? "../src/molifold/workbench/static/";
await build({ entryPoints: ["src/views.js"], outfile: `${out}views.js`, bundle: true, format: "esm", minify: true, target: "es2022", legalComments: "eof", charset: "utf8" });
// uPlot's own style first, then ours.
writeFileSync(`${out}views.css`, readFileSync("node_modules/uplot/dist/uPlot.min.css", "utf8") + readFileSync("src/views.css", "utf8"));
