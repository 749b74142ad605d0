#!/usr/bin/env node
// Prisma's own client on LiteLLM's database: reads what is there, and with --write makes a team, a key and a call, spends
// on the key and removes the team again. Prints one JSON object. Usage: prisma.mjs URL [--write NAME]
import { createRequire } from 'node:module'

const [url, write, name] = process.argv.slice(2)
const require = createRequire(`${process.env.PRISMA_ORACLE}/package.json`)
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient } = require('./client/index.js')
// Encrypted, by whatever certificate: Prisma's own sslmode=prefer and sslmode=require ask for no more.
const adapter = new PrismaPg({ connectionString: url, ssl: { rejectUnauthorized: false } })
const prisma = new PrismaClient({ adapter, errorFormat: 'minimal' })

const found = {}
try {
  if (write) {
    await prisma.liteLLM_TeamTable.create({ data: { team_id: name, team_alias: name, members_with_roles: [{ user_id: 'user-1', role: 'admin' }] } })
    await prisma.liteLLM_VerificationToken.create({ data: { token: name, key_name: name, team_id: name, models: ['lab-chat'], metadata: { made: 'by Prisma' } } })
    await prisma.liteLLM_VerificationToken.update({ where: { token: name }, data: { spend: { increment: 0.1 } } })
    await prisma.liteLLM_VerificationToken.update({ where: { token: name }, data: { spend: { increment: 0.2 } } })
    const now = new Date()
    await prisma.liteLLM_SpendLogs.create({ data: { request_id: `call-${name}`, call_type: 'acompletion', api_key: name, spend: 0.1 + 0.2, total_tokens: 3, prompt_tokens: 1, completion_tokens: 2, startTime: now, endTime: now, model: 'gpt-4o-mini', status: 'success' } })
    await prisma.$transaction(async (tx) => {
      await tx.liteLLM_TeamTable.delete({ where: { team_id: name } })
      await tx.liteLLM_VerificationToken.update({ where: { token: name }, data: { team_id: null } })
    })
    found.written = await prisma.liteLLM_VerificationToken.findUnique({ where: { token: name } })
  }
  found.keys = await prisma.liteLLM_VerificationToken.count()
  found.teams = await prisma.liteLLM_TeamTable.count()
  found.spend_logs = await prisma.liteLLM_SpendLogs.count()
  found.tokens = (await prisma.liteLLM_SpendLogs.aggregate({ _sum: { total_tokens: true } }))._sum.total_tokens
  found.key = await prisma.liteLLM_VerificationToken.findFirst({ where: { key_alias: 'alias 10' }, include: { litellm_budget_table: true } })
  found.migrations = (await prisma.$queryRaw`SELECT count(*) FILTER (WHERE finished_at IS NULL AND rolled_back_at IS NULL)::int AS failed, count(*)::int AS applied FROM _prisma_migrations`)[0]
} catch (error) {
  found.error = error.message
}
await prisma.$disconnect()
console.log(JSON.stringify(found, (_, value) => (typeof value === 'bigint' ? Number(value) : value)))
