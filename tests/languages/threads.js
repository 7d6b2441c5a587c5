// SPDX-License-Identifier: MIT
//
// threads.js: what a program in Node.js does with threads: workers that share memory, wait
// for one another, allocate, fail and are stopped; libuv's pool, for files, cryptography,
// compression and names; children; sockets; and signals.

const assert = require('assert');
const {Worker, isMainThread, parentPort, workerData} = require('worker_threads');

if (!isMainThread) {
	const {part, shared} = workerData;
	const words = new Int32Array(shared);
	if (part === 'count') {
		for (let i = 0; i < 20000; i++)
			Atomics.add(words, 0, 1);
		parentPort.postMessage(1);
	} else if (part === 'lock') {
		for (let i = 0; i < 300; i++) {
			while (Atomics.compareExchange(words, 1, 0, 1) !== 0)
				Atomics.wait(words, 1, 1);
			words[2]++;
			Atomics.store(words, 1, 0);
			Atomics.notify(words, 1, 1);
		}
	} else if (part === 'allocate') {
		let kept = [];
		for (let i = 0; i < 20000; i++) {
			kept.push({i, text: 'x'.repeat(50) + i});
			if (kept.length > 1000)
				kept = [];
		}
		parentPort.postMessage(kept.length);
	} else if (part === 'throw') {
		throw new TypeError('thrown in a worker');
	} else if (part === 'spin') {
		Atomics.add(words, 3, 1);
		for (;;)
			;
	} else if (part === 'sleep') {
		Atomics.add(words, 3, 1);
		Atomics.wait(words, 4, 0);
	} else if (part === 'overflow') {
		const f = n => f(n + 1) + 1;
		try {
			f(0);
		} catch (e) {
			parentPort.postMessage(e instanceof RangeError);
		}
	} else if (part === 'exit') {
		process.exit(7);
	}
} else {
	main().catch(e => {
		console.error(e);
		process.exit(1);
	});
}

function start(part, shared) {
	const worker = new Worker(__filename, {workerData: {part, shared}});
	const messages = [];
	worker.on('message', m => messages.push(m));
	worker.ended = new Promise(resolve => {
		worker.on('error', error => { worker.error = error; });
		worker.on('exit', code => resolve({code, messages, error: worker.error}));
	});
	return worker;
}

function startMany(n, part, shared) {
	return Promise.all([...Array(n).keys()].map(() => start(part, shared).ended));
}

function later(ms) {
	return new Promise(resolve => setTimeout(resolve, ms));
}

async function main() {
	const shared = new SharedArrayBuffer(64), words = new Int32Array(shared);

	await startMany(8, 'count', shared);
	assert.strictEqual(words[0], 160000);
	console.log('workers count');

	await startMany(6, 'lock', shared);
	assert.strictEqual(words[2], 1800);
	console.log('workers lock');

	for (const end of await startMany(4, 'allocate', shared))
		assert(end.code === 0 && end.messages.length === 1);
	console.log('workers allocate');

	const failed = await start('throw', shared).ended;
	assert(failed.code === 1 && failed.error instanceof TypeError);
	assert.strictEqual((await start('exit', shared).ended).code, 7);
	assert.deepStrictEqual((await start('overflow', shared).ended).messages, [true]);
	console.log('workers fail');

	const stopped = [start('spin', shared), start('sleep', shared)];
	while (words[3] < 2)
		await later(5);
	await Promise.all(stopped.map(w => w.terminate()));
	assert.deepStrictEqual((await Promise.all(stopped.map(w => w.ended))).map(e => e.code), [1, 1]);
	console.log('workers are stopped');

	await pool();
	await children();
	await sockets();

	const got = new Promise(resolve => process.once('SIGUSR2', resolve));
	process.kill(process.pid, 'SIGUSR2');
	await got;
	console.log('signals');
}

async function pool() {
	const fs = require('fs'), zlib = require('zlib'), {promisify} = require('util');
	const {createHash, pbkdf2} = require('crypto'), os = require('os'), path = require('path');
	const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'threads-'));
	const keys = await Promise.all([...Array(32).keys()].map(i =>
		promisify(pbkdf2)('secret', 'salt' + i, 2000, 32, 'sha256')));

	console.log('keys', createHash('sha256').update(Buffer.concat(keys)).digest('hex'));
	await Promise.all(keys.map((key, i) => fs.promises.writeFile(path.join(dir, '' + i), key)));
	const read = await Promise.all(keys.map((_, i) => fs.promises.readFile(path.join(dir, '' + i))));
	assert(read.every((r, i) => r.equals(keys[i])));
	const packed = await promisify(zlib.gzip)(Buffer.concat(read));
	assert((await promisify(zlib.gunzip)(packed)).equals(Buffer.concat(keys)));
	fs.rmSync(dir, {recursive: true});
	const names = await Promise.all([...Array(8)].map(() =>
		require('dns').promises.lookup('localhost', {family: 4})));
	assert(names.every(n => n.address === '127.0.0.1'));
	console.log('the pool');
}

async function children() {
	const {execFile, spawnSync} = require('child_process'), {promisify} = require('util');
	const out = await Promise.all([...Array(8).keys()].map(i =>
		promisify(execFile)('sh', ['-c', `echo $((${i} * 3))`])));

	assert(out.every((o, i) => o.stdout === `${i * 3}\n`));
	assert.strictEqual(spawnSync('sh', ['-c', 'kill -9 $$']).signal, 'SIGKILL');
	console.log('children');
}

function sockets() {
	const net = require('net');

	return new Promise((resolve, reject) => {
		const server = net.createServer(s => s.pipe(s)).listen(0, '127.0.0.1', async () => {
			const echo = i => new Promise((done, fail) => {
				const s = net.connect(server.address().port, '127.0.0.1', () => s.end('hello ' + i));
				let text = '';
				s.on('data', d => { text += d; }).on('error', fail)
					.on('end', () => done(text === 'hello ' + i));
			});
			const all = await Promise.all([...Array(50).keys()].map(echo)).catch(reject);
			assert(all.every(ok => ok));
			server.close(resolve);
			console.log('sockets');
		});
	});
}
