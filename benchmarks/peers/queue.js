// A campaign as the seed had it: a job a message in a queue on Redis, workers that POST, and the
// row's status in PostgreSQL: `queued` when it is put in the queue, `sent` when it was answered.
//
//   node queue.js RUN bull|bullmq axios|undici WORKERS COUNT URL REDIS POSTGRES
//
// Started again it goes on as the seed was meant to: what is still `pending` is put in the queue,
// what is in it is worked off. It ends when every row is `sent`, or nothing moves for 90 s.
const [run, library, client, workers, count, url, redis, postgres] = process.argv.slice(2)
const { Pool } = require('pg')

const pool = new Pool({ connectionString: postgres, max: Math.max(10, Number(workers)) })
const name = `${run}_${library}_${client}_${workers}`
const PATH = `${url}/v25.0/106540352242922/messages`
const HEADERS = { authorization: 'Bearer a-token-of-no-one' }

function message(nr) {
  return {
    messaging_product: 'whatsapp', recipient_type: 'individual',
    to: `+49151${10000000 + nr}`, type: 'text',
    text: { body: `Hello Ann${nr} Smith, your order ${nr} is on its way to Berlin.` },
  }
}

function poster() {
  if (client === 'axios') {
    const axios = require('axios')
    return async nr => (await axios.post(PATH, message(nr), { headers: HEADERS })).data
  }
  const undici = require('undici')
  const http = new undici.Pool(url, { connections: Number(workers) })
  const headers = { ...HEADERS, 'content-type': 'application/json' }
  return async nr => {
    const path = new URL(PATH).pathname
    const body = JSON.stringify(message(nr))
    const answer = await http.request({ path, method: 'POST', headers, body })
    return answer.body.json()
  }
}

let moved = Date.now()
const post = poster()

async function work(job) {
  const answer = await post(job.data.nr)
  await pool.query(`update ${name} set status = $1, wamid = $2 where nr = $3`,
    ['sent', answer.messages[0].id, job.data.nr])
  moved = Date.now()
}

function queue() {
  const keep = { removeOnComplete: true, attempts: 3, backoff: { type: 'exponential', delay: 2000 } }
  if (library === 'bull') {
    const Bull = require('bull')
    const jobs = new Bull(name, redis, { defaultJobOptions: keep })
    return { add: data => jobs.add(data), start: () => { jobs.process(Number(workers), work) } }
  }
  const { Queue, Worker } = require('bullmq')
  const where = new URL(redis)
  const connection = { host: where.hostname, port: Number(where.port), maxRetriesPerRequest: null }
  const jobs = new Queue(name, { connection, defaultJobOptions: keep })
  return {
    add: data => jobs.add('message', data),
    start: () => new Worker(name, work, { connection, concurrency: Number(workers) }),
  }
}

async function main() {
  const { add, start } = queue()
  await pool.query(`create table if not exists ${name}
    (nr integer primary key, status text not null default 'pending', wamid text)`)
  await pool.query(`insert into ${name} (nr) select generate_series(0, $1::int - 1) on conflict do nothing`,
    [count])
  start()
  const { rows } = await pool.query(`select nr from ${name} where status = 'pending' order by nr`)
  for (let at = 0; at < rows.length; at += 100) {
    await Promise.all(rows.slice(at, at + 100).map(async ({ nr }) => {
      await add({ nr })
      await pool.query(`update ${name} set status = 'queued' where nr = $1 and status = 'pending'`, [nr])
    }))
    moved = Date.now()
  }
  for (;;) {
    const left = await pool.query(`select count(*)::int as n from ${name} where status <> 'sent'`)
    if (!left.rows[0].n || Date.now() - moved > 90000) break
    await new Promise(resolve => setTimeout(resolve, 200))
  }
  process.exit(0)
}

main().catch(error => { console.error(error); process.exit(1) })
