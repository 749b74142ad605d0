#!/usr/bin/env node
// A query engine for prisma-client-py made of Prisma's own query compiler (WebAssembly): it takes the place of the
// binary that Prisma would download. It speaks what that binary speaks, GraphQL over HTTP on the port given with -p,
// and hands every query to the client that `prisma generate` made.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { parse, toQuery, fromResult } from './graphql.mjs'

if (process.argv.includes('--version')) {
  console.log('query-engine of @prisma/client')
  process.exit(0)
}

delete process.env.PRISMA_CLIENT_ENGINE_TYPE // set by prisma-client-py, and meant for a binary
const require = createRequire(`${process.env.PRISMA_ORACLE}/package.json`)
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient } = require('./client/index.js')

const overwritten = JSON.parse(process.env.OVERWRITE_DATASOURCES ?? '[]')
const url = new URL(overwritten[0]?.url ?? process.env.DATABASE_URL)
const limit = Number(url.searchParams.get('connection_limit') ?? 10)
const prisma = new PrismaClient({
  adapter: new PrismaPg({ connectionString: url.href.split('?')[0], max: limit }),
  errorFormat: 'minimal',
})
await prisma.$connect()
const engine = prisma._engine
const models = prisma._runtimeDataModel.models
const transactions = new Map()

const failure = (error) => ({
  // The binary names the interface in the message for users alone.
  error: error.message.replace(/^Transaction API error: /, ''),
  user_facing_error: { is_panic: false, message: error.message, meta: error.meta ?? {}, error_code: error.code },
})

const transactionOf = (id) => {
  const found = transactions.get(id)
  if (!found) {
    const error = new Error(`Transaction already closed: no transaction ${id}`)
    throw Object.assign(error, { code: 'P2028' })
  }
  return found
}

async function run({ query, batch, transaction }, id) {
  const interactive = id ? transactionOf(id) : undefined
  if (!batch) {
    const asked = toQuery(parse(query), models)
    return { data: { result: fromResult(await engine.request(asked, { isWrite: true, interactiveTransaction: interactive })) } }
  }
  const asked = batch.map((one) => toQuery(parse(one.query), models))
  const kind = interactive ? { kind: 'itx', options: interactive } : { kind: 'batch', options: {} }
  const results = await engine.requestBatch(asked, { transaction: transaction || interactive ? kind : undefined, containsWrite: true })
  const failed = results.find((one) => one instanceof Error)
  if (failed) throw failed
  return { batchResult: results.map((one) => ({ data: { result: fromResult(one) } })) }
}

async function answer(path, body, id) {
  const [, room, ...rest] = path.split('/')
  if (room !== 'transaction') return run(body, id)
  if (rest[0] === 'start') {
    const options = { timeout: body.timeout, maxWait: body.max_wait, isolationLevel: body.isolation_level }
    const started = await engine.transaction('start', {}, options)
    transactions.set(started.id, started)
    return { id: started.id }
  }
  const started = transactionOf(rest[0])
  transactions.delete(rest[0])
  await engine.transaction(rest[1], {}, started)
  return {}
}

const server = createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  let found
  try {
    const text = Buffer.concat(chunks).toString()
    found = request.method === 'GET' ? { status: 'ok' } : await answer(request.url, text ? JSON.parse(text) : {}, request.headers['x-transaction-id'])
  } catch (error) {
    if (process.env.PRISMA_ORACLE_DEBUG) console.error(error)
    found = { errors: [failure(error)] }
  }
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(found))
})
server.keepAliveTimeout = 60_000
server.listen(Number(process.argv[process.argv.indexOf('-p') + 1]), 'localhost')
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))
