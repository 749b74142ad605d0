// The documents that prisma-client-py sends, turned into queries of Prisma's JSON protocol, and the answers back.
// Commas are white space in GraphQL.
const TOKEN = /[\s,]*(?:("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|([{}()[\]:]))/y

function* tokens(text) {
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.length) {
    const from = TOKEN.lastIndex
    const found = TOKEN.exec(text)
    if (!found) {
      if (/^[\s,]*$/.test(text.slice(from))) return
      throw new Error(`This is no document of prisma-client-py: ${text.slice(from, from + 80)}`)
    }
    const [, string, number, name, sign] = found
    if (string !== undefined) yield { value: JSON.parse(string) }
    else if (number !== undefined) yield { value: numberOf(number) }
    else if (name !== undefined) yield { name }
    else yield { sign }
  }
}

function numberOf(text) {
  const value = Number(text)
  const exact = !/^-?\d+$/.test(text) || Number.isSafeInteger(value)
  return exact ? value : { $type: 'BigInt', value: text }
}

// A document as {field, arguments, selection}.
export function parse(text) {
  const stream = [...tokens(text)]
  let at = 0
  const sees = (sign) => stream[at]?.sign === sign
  const take = (sign) => {
    if (!sees(sign)) throw new Error(`Expected ${sign}, found ${JSON.stringify(stream[at])}`)
    at += 1
  }
  const list = (close, item) => {
    const found = []
    while (!sees(close)) found.push(item())
    take(close)
    return found
  }
  const pairs = (close) => Object.fromEntries(list(close, () => {
    const { name } = stream[at++]
    take(':')
    return [name, value()]
  }))
  const value = () => {
    const token = stream[at++]
    if (token.sign === '{') return pairs('}')
    if (token.sign === '[') return list(']', value)
    if ('value' in token) return token.value
    if (token.name === 'NaN' || token.name === 'Infinity') throw new Error(`Not a number: ${token.name}`)
    return { null: null, true: true, false: false }[token.name]
  }
  const selection = () => Object.fromEntries(list('}', () => {
    const { name } = stream[at++]
    const given = sees('(') ? (take('('), pairs(')')) : undefined
    if (!sees('{')) return [name, true]
    take('{')
    return [name, { arguments: given ?? {}, selection: selection() }]
  }))
  at += 1 // query or mutation
  take('{')
  at += 1 // result
  take(':')
  const { name } = stream[at++]
  const given = sees('(') ? (take('('), pairs(')')) : {}
  const selected = sees('{') ? (take('{'), selection()) : {}
  return { field: name, arguments: given, selection: selected }
}

const ACTION = /^(findUnique|findFirst|findMany|createOne|createMany|updateOne|updateMany|upsertOne|deleteOne|deleteMany|aggregate|groupBy)(.+?)(OrThrow)?$/
const FILTERS = new Set(['where', 'having', 'cursor'])
const JSON_VALUES = new Set(['equals', 'not', 'lt', 'lte', 'gt', 'gte', 'array_contains', 'array_starts_with', 'array_ends_with', 'set'])

export function toQuery({ field, arguments: given, selection }, models) {
  if (field === 'queryRaw' || field === 'executeRaw') {
    return { action: field, query: { arguments: { query: given.query, parameters: given.parameters ?? '[]' }, selection: {} } }
  }
  const [, action, model, orThrow] = ACTION.exec(field)
  return { modelName: model, action: action + (orThrow ?? ''), query: { arguments: typedArguments(given, models, model), selection: typedSelection(selection, models, model) } }
}

const fieldOf = (models, model, name) => models[model]?.fields.find((one) => one.name === name)

function typedSelection(selection, models, model) {
  return Object.fromEntries(Object.entries(selection).map(([name, value]) => {
    const field = fieldOf(models, model, name)
    if (value === true || field?.kind !== 'object') return [name, value]
    return [name, { arguments: typedArguments(value.arguments, models, field.type), selection: typedSelection(value.selection, models, field.type) }]
  }))
}

// A model may well have a field that is called as an argument is.
const typedArguments = (given, models, model) =>
  Object.fromEntries(Object.entries(given).map(([name, inner]) => [name, name === 'orderBy' ? inner : typed(inner, models, model, FILTERS.has(name))]))

// GraphQL gives a Json as a text that holds it; the JSON protocol wants to be told. It would also take any other value
// for a Json, where GraphQL refuses it.
function typed(value, models, model, inFilter = false) {
  if (Array.isArray(value)) return value.map((one) => typed(one, models, model, inFilter))
  if (value === null || typeof value !== 'object' || '$type' in value) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => {
    const field = fieldOf(models, model, name)
    if (field?.kind === 'object') return [name, typed(inner, models, field.type, inFilter)]
    if (field?.type === 'Json') return [name, typedJson(inner, inFilter)]
    if (field?.type === 'Bytes') return [name, typedBytes(inner)]
    return [name, field ? inner : typed(inner, models, model, inFilter || name === 'where')]
  }))
}

function typedJson(value, inFilter) {
  if (typeof value === 'string') return { $type: 'Json', value }
  if (value === null) throw refusal('A value is required but not set')
  if (!inFilter || typeof value !== 'object' || Array.isArray(value)) throw refusal('Invalid argument type: a Json was expected')
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, JSON_VALUES.has(name) ? typedJson(inner) : inner]))
}

const refusal = (message) => Object.assign(new Error(message), { code: 'P2009', meta: {} })

function typedBytes(value) {
  if (typeof value === 'string') return { $type: 'Bytes', value }
  if (Array.isArray(value)) return value.map(typedBytes)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, typedBytes(inner)]))
}

// GraphQL answers with plain texts where the JSON protocol names a type.
const plain = (value) => {
  if (Array.isArray(value)) return value.map(plain)
  if (value === null || typeof value !== 'object') return value
  // The binary writes moments with three digits and a Z.
  if (value.$type === 'DateTime') return new Date(value.value).toISOString()
  if ('$type' in value) return value.value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]))
}

export function fromResult(answer) {
  const data = answer.data ?? answer
  const [action, value] = Object.entries(data)[0]
  if (action !== 'queryRaw') return plain(value)
  const text = (cell) => (cell instanceof Uint8Array ? Buffer.from(cell).toString('base64') : cell)
  return { ...value, rows: value.rows.map((row) => row.map(text)) }
}
