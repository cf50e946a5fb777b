// A compiler at run time at work: V8's tiers on numbers, objects, closures, strings, maps, typed arrays, WebAssembly.
'use strict';
let total = 0x12345678;
const fold = (value) => { total = (Math.imul(total, 1000003) ^ value) >>> 0; };

let random = 12345;
const next = () => (random = (Math.imul(random, 1103515245) + 12345) & 0x7fffffff);

class Shape { constructor(size) { this.size = size; } area() { return 0; } }
class Square extends Shape { area() { return this.size * this.size; } }
class Circle extends Shape { area() { return Math.floor(this.size * this.size * 22 / 7); } }
class Line extends Shape {}
const kinds = [Square, Circle, Line];
let shapes = [];
for (let i = 0; i < 120000; i++) {
  shapes.push(new kinds[next() % 3](i % 100));
  if (shapes.length > 5000) {  // garbage for the collector
    fold(shapes.reduce((sum, shape) => (sum + shape.area()) | 0, 0));
    shapes = shapes.filter((shape, at) => at % 7 === 0);
  }
}

const sieve = new Uint8Array(400000);
let primes = 0;
for (let i = 2; i < sieve.length; i++) {
  if (sieve[i]) continue;
  primes++;
  for (let k = i * 2; k < sieve.length; k += i) sieve[k] = 1;
}
fold(primes);

const matrix = (n, f) => Array.from({length: n}, (_, y) => Float64Array.from({length: n}, (_, x) => f(x, y)));
const a = matrix(90, (x, y) => (x * y) % 17 / 8), b = matrix(90, (x, y) => (x + 3 * y) % 13 / 4);
for (let y = 0; y < 90; y++) {
  for (let x = 0; x < 90; x++) {
    let sum = 0;
    for (let k = 0; k < 90; k++) sum += a[y][k] * b[k][x];
    if ((x ^ y) % 11 === 0) fold(sum * 32);
  }
}

const words = new Map();
let text = '';
for (let i = 0; i < 30000; i++) text += String.fromCharCode(97 + next() % 5) + (next() % 4 ? '' : ' ');
for (const word of text.match(/[a-z]+/g)) words.set(word, (words.get(word) || 0) + 1);
for (const [word, count] of [...words].sort()) fold(word.length * count + word.charCodeAt(0));
fold(JSON.stringify(JSON.parse(JSON.stringify([...words]))).length);

// A function that is compiled for integers, and then meets doubles and strings.
const add = (x, y) => x + y;
for (let i = 0; i < 200000; i++) fold(add(i, 1));
fold(add(0.5, 0.25) * 4);
fold(add('1', '2').length);

// Self-modifying by nature: code made anew many times over.
for (let i = 0; i < 300; i++) fold(new Function('x', `let s = 0; for (let k = 0; k < 200; k++) s += x ^ (k * ${i}); return s;`)(i));

// (module (func (export "f") (param i32) (result i32) …)): the sum of i*i for i below the parameter
const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10,
  40, 1, 38, 1, 2, 127, 2, 64, 3, 64, 32, 1, 32, 0, 78, 13, 1, 32, 2, 32, 1, 32, 1, 108, 106, 33, 2, 32, 1, 65, 1, 106,
  33, 1, 12, 0, 11, 11, 32, 2, 11]);
fold(new WebAssembly.Instance(new WebAssembly.Module(wasm)).exports.f(3000000));
console.log(total.toString(16).padStart(8, '0'));
