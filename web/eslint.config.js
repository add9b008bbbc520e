import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  { files: ["src/**"], languageOptions: { globals: globals.browser } },
  { files: ["build.mjs", "tests/**"], languageOptions: { globals: globals.node } },
];
