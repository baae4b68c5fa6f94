// One file out of what vite built: script and style inline, the policy that allows exactly these
// two by their hashes, and the whole compressed. Gzip's bytes differ between versions of zlib, so
// tools/check_web.sh compares what is inside.
import { createHash } from 'node:crypto';
import { readFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const here = new URL('.', import.meta.url);
const output = process.argv[2] ? new URL(`file://${process.argv[2]}/`) : new URL('dist/', here);
const read = (path) => readFileSync(new URL(`.build${path}`, here), 'utf8');
const hash = (text) => `'sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}'`;

let html = read('/index.html');
const script = html.match(/<script type="module"[^>]* src="([^"]+)"><\/script>\s*/);
const style = html.match(/<link rel="stylesheet"[^>]* href="([^"]+)">\s*/);
if (!script || !style) throw new Error('expected one script and one style sheet in index.html');
const code = read(script[1]).trim();
const css = read(style[1]).trim();
if (/<\/script|<!--/i.test(code) || /<\/style/i.test(css)) {
  throw new Error('the script or the style would end its own element');
}
// Replacements as functions: "$&" in the code is code.
html = html.replace(script[0], '').replace(style[0], '');
html = html.replace('</head>', () => `<style>${css}</style></head>`);
html = html.replace('</body>', () => `<script type="module">${code}</script></body>`);

const policy = [
  "default-src 'none'",
  `script-src ${hash(code)}`,
  `style-src ${hash(css)}`,
  "img-src data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

mkdirSync(output, { recursive: true });
const packed = gzipSync(Buffer.from(html), { level: 9 });
writeFileSync(new URL('index.html.gz', output), packed);
writeFileSync(new URL('csp.txt', output), policy + '\n');
console.log(`index.html ${html.length} bytes, compressed ${packed.length}`);
