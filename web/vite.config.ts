import { defineConfig } from 'vite';

// `npm run dev` wants a server beside it: inkstone serve --port 8080.
const server = 'http://127.0.0.1:8080';

export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: {
    outDir: '.build',
    target: 'es2022',
    cssCodeSplit: false,
    modulePreload: false,
    assetsInlineLimit: 1 << 20,
    rollupOptions: { output: { inlineDynamicImports: true } },
  },
  server: { proxy: { '/v1': server, '/metrics': server, '/tokenize': server } },
});
