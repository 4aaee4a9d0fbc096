// Who is logged in, what they may do, and what this server can do.
import { createSignal } from 'solid-js'
import { ask, onSignedOut, setCsrf, type Role, type Who } from './api/client'

const [who, setWho] = createSignal<Who | null | undefined>(undefined)
const [paths, setPaths] = createSignal<ReadonlySet<string>>(new Set())

/** Who is logged in: nobody yet known (undefined), nobody (null), or them. */
export { who }

export function signedIn(now: Who | null) {
  setCsrf(now?.csrf ?? null)
  setWho(now)
}
onSignedOut(() => signedIn(null))

/** Asks the server who we are, and what it can do. */
export async function begin() {
  const [now, document] = await Promise.all([
    ask<Who>('GET', '/api/v1/session').catch(() => null),
    ask<{ paths: Record<string, unknown> }>('GET', '/api/v1/openapi.json').catch(() => ({ paths: {} })),
  ])
  setPaths(new Set(Object.keys(document.paths).map((path) => path.replace(/\{[^}]*\}/g, '{}'))))
  signedIn(now)
}

/** Whether the server has this path: `/agents`, `/calls/{}/mute`. */
export const can = (path: string) => paths().has(`/api/v1${path}`)

const RANKS: Role[] = ['operator', 'supervisor', 'administrator']
/** Whether whoever is logged in has this role or more. */
export const is = (role: Role) => RANKS.indexOf(who()?.user.role ?? 'operator') >= RANKS.indexOf(role)

export async function signOut() {
  await ask('DELETE', '/api/v1/session').catch(() => {})
  signedIn(null)
}
