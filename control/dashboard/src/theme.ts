// Dark or light: as the system has it, unless somebody chose.
import { createSignal } from 'solid-js'

export type Theme = 'dark' | 'light'
const system = matchMedia('(prefers-color-scheme: dark)')
const kept = () => { try { return localStorage.getItem('theme') as Theme | null } catch { return null } }
const now = (): Theme => kept() ?? (system.matches ? 'dark' : 'light')
const [theme, set] = createSignal<Theme>(now())
export { theme }

function apply() {
  set(now())
  document.documentElement.dataset.theme = theme()
}
system.addEventListener('change', apply)
apply()

export function switchTheme() {
  const wanted: Theme = theme() === 'dark' ? 'light' : 'dark'
  // What the system has anyway need not be kept: it may change.
  try { wanted === (system.matches ? 'dark' : 'light') ? localStorage.removeItem('theme') : localStorage.setItem('theme', wanted) } catch { /* kept for this page alone */ }
  document.documentElement.dataset.theme = wanted
  set(wanted)
}
