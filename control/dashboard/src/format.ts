// How things are written: times, numbers, addresses, what the server's words are for people.
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
const shortTime = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const shortDate = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' })

export const when = (at?: string | null) => (at ? dateTime.format(new Date(at)) : '–')
export const time = (at: string) => shortTime.format(new Date(at))
export const day = (at?: string | null) => (at ? shortDate.format(new Date(at)) : '–')

/** 65,000 ms are 1:05. */
export function clock(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000))
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60]
  const tail = String(seconds % 60).padStart(2, '0')
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${tail}` : `${minutes}:${tail}`
}

/** The user part of an address, or all of it where it has none. */
export function party(address: string): string {
  const rest = address.replace(/^[a-z]+:/i, '')
  return decode(rest.split(/[@;?]/)[0] || rest) || 'unknown'
}

function decode(text: string) {
  try { return decodeURIComponent(text) } catch { return text }
}

/** `caller_hung_up` is "Caller hung up". */
export function words(name: string): string {
  const text = name.replace(/[_.]/g, ' ')
  return text.charAt(0).toUpperCase() + text.slice(1)
}

export const ms = (value?: number | null) => (value == null ? '–' : `${Math.round(value).toLocaleString()} ms`)
export const fixed = (value: number | null | undefined, digits: number) => (value == null ? '–' : value.toFixed(digits))
/** Millionths of a currency's unit, with as many decimals as the sum needs, two at least. */
export const money = (micros?: number | null, currency?: string | null) => {
  if (micros == null) return '–'
  const whole = micros % 10_000 === 0 ? 2 : micros >= 1_000_000 ? 3 : 6
  const shape = { minimumFractionDigits: 2, maximumFractionDigits: whole }
  return (micros / 1_000_000).toLocaleString(undefined, currency ? { style: 'currency', currency, ...shape } : shape)
}
export const percent = (part: number, whole: number) => (whole ? `${((100 * part) / whole).toFixed(part ? 1 : 0)} %` : '–')

/** What the class of an end looks like. */
export const tone = (kind: string) =>
  ({ ok: 'good', caller_fault: 'warn', upstream_fault: 'warn', our_fault: 'bad' })[kind] ?? ''

/** What a mean opinion score is worth (ITU-T G.107 annex B). */
export function mosTone(mos?: number | null): string {
  if (mos == null) return ''
  return mos >= 4 ? 'good' : mos >= 3.6 ? 'warn' : 'bad'
}
