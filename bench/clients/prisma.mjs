// Prisma's own client under the clock. JSON lines: {operation, calls, tasks} in, {seconds, cpu_seconds} out.
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'

const require = createRequire(`${process.env.PRISMA_ORACLE}/package.json`)
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient } = require('./client/index.js')
const adapter = new PrismaPg({ connectionString: process.env.DATABASE_URL, max: 10 })
const db = new PrismaClient({ adapter })
await db.$connect()

const tokens = db.liteLLM_VerificationToken
const token = (n) => `token-${n % 1000}`
const operations = {
  find_unique: (n) => tokens.findUnique({ where: { token: token(n) } }),
  find_first: (n) => tokens.findFirst({ where: { user_id: `user-${n % 50}`, blocked: null } }),
  find_many: (n) => tokens.findMany({ where: { user_id: `user-${n % 50}` }, orderBy: { token: 'asc' } }),
  include: (n) => tokens.findUnique({ where: { token: token(n) }, include: { litellm_budget_table: true } }),
  count: (n) => tokens.count({ where: { user_id: `user-${n % 50}` } }),
  create: (n) => db.liteLLM_Config.create({ data: { param_name: `prisma-${process.hrtime.bigint()}-${n}`, param_value: { a: 1 } } }),
  update: (n) => tokens.update({ where: { token: token(n) }, data: { spend: { increment: 0.5 } } }),
  update_many: (n) => tokens.updateMany({ where: { token: token(n) }, data: { spend: { increment: 0.5 } } }),
  upsert: (n) => db.liteLLM_Config.upsert({ where: { param_name: `kept-${n % 100}` }, create: { param_name: `kept-${n % 100}` }, update: { reload_revision: { increment: 1 } } }),
  query_raw: (n) => db.$queryRawUnsafe('SELECT token, spend FROM "LiteLLM_VerificationToken" WHERE token = $1', token(n)),
}

console.log(JSON.stringify({ ready: true }))
for await (const line of createInterface({ input: process.stdin })) {
  const { operation, calls, tasks } = JSON.parse(line)
  const call = operations[operation]
  let next = 0
  const worker = async () => {
    while (next < calls) await call(next++)
  }
  const began = process.hrtime.bigint()
  const before = process.cpuUsage()
  await Promise.all(Array.from({ length: tasks }, worker))
  const { user, system } = process.cpuUsage(before)
  const seconds = Number(process.hrtime.bigint() - began) / 1e9
  console.log(JSON.stringify({ seconds, cpu_seconds: (user + system) / 1e6 }))
}
await db.$disconnect()
