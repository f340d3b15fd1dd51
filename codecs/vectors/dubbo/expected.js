// Reads the Hessian 2 requests of a folder with the npm package hessian.js, an implementation that shares nothing with
// the codec, and prints what the codec must read of them:
//
//     npm install hessian.js@2.11.0 && node expected.js FOLDER > FOLDER/expected.tsv
//
// One line a frame: file, then the strings at the front, then `@name=value` for each attachment that is a string, a
// number or a truth value. Of a long value only its length in UTF-16 units is told.
const fs = require('fs');
const path = require('path');
const { DecoderV2 } = require('hessian.js');

const short = (text) => (text.length > 200 ? `${text.length} units` : text);
const parameters = (types) => (types.match(/\[*(L[^;]*;|[ZBCDFIJSV])/g) || []).length;
const folder = process.argv[2];
for (const file of fs.readdirSync(folder).sort()) {
  if (!file.endsWith('.bin')) continue;
  const frame = fs.readFileSync(path.join(folder, file));
  // Requests in Hessian 2 that are no events.
  if ((frame[2] & 0xbf) !== 0x82) continue;
  const decoder = new DecoderV2(frame.subarray(16));
  const line = [file];
  const front = ['dubboVersion', 'interface', 'version', 'method', 'parameterTypes'].map((name) => {
    const text = decoder.read();
    line.push(`${name}=${short(text)}`);
    return text;
  });
  for (let left = parameters(front[4]); left > 0; left--) decoder.read();
  const map = decoder.read(true);
  const entries = map.$map ? [...map.$map] : Object.entries(map.$ ?? map);
  for (const [name, entry] of entries) {
    let value = entry !== null && typeof entry === 'object' && '$' in entry ? entry.$ : entry;
    if (value !== null && typeof value !== 'object') line.push(`@${name}=${short(String(value))}`);
  }
  process.stdout.write(line.join('\t') + '\n');
}
