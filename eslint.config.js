// Rules for the page's JavaScript; run by `make lint`.
import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: [".venv*/**", "node_modules/**", "build/**", "dist/**", "demo/**", "runs/**", "**/*.d.ts"] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2023, sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      curly: ["error", "multi-line"],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "texts become text nodes: file names are never read as HTML" },
        { property: "outerHTML", message: "texts become text nodes: file names are never read as HTML" },
        { property: "insertAdjacentHTML", message: "texts become text nodes: file names are never read as HTML" },
      ],
      "no-restricted-syntax": ["error", { selector: "ImportDeclaration[source.value=/^https?:/]", message: "the page asks its own server only" }],
      "no-shadow": ["error", { builtinGlobals: false }],
      "no-sequences": "error",
      "no-unused-expressions": ["error", { allowShortCircuit: true }],
      "no-var": "error",
      "prefer-const": "error",
      "max-lines": ["error", { max: 400 }],
      "max-statements": ["error", { max: 50 }],
      "max-params": ["error", { max: 8 }],
    },
  },
  { files: ["src/upicker/web/static/js/**"], languageOptions: { globals: globals.browser }, rules: { "no-console": "error" } },
  { files: ["tests/js/**", "eslint.config.js"], languageOptions: { globals: globals.node } },
];
