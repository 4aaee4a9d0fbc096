// A list that comes in pages: the first when its question changes, more on demand.
import { createEffect, createSignal, For, on, Show, type JSX } from 'solid-js'
import { createStore, reconcile } from 'solid-js/store'
import { Fault, type Page } from '../api/client'
import { Button, Empty, Notice } from './parts'

export function usePages<T extends object>(load: (after: string | undefined) => Promise<Page<T>>, question: () => unknown = () => 0) {
  const [items, setItems] = createStore<T[]>([])
  const [next, setNext] = createSignal<string | null>(null)
  const [state, setState] = createSignal<'loading' | 'ready' | 'failed'>('loading')
  const [fault, setFault] = createSignal<Fault | null>(null)
  let turn = 0
  const read = async (more: boolean) => {
    const mine = ++turn
    setState('loading')
    try {
      const page = await load(more ? (next() ?? undefined) : undefined)
      if (mine !== turn) return
      setItems(reconcile(more ? [...items, ...page.items] : page.items))
      setNext(page.next ?? null)
      setFault(null)
      setState('ready')
    } catch (thrown) {
      if (mine !== turn) return
      setFault(Fault.of(thrown))
      setState('failed')
    }
  }
  createEffect(on(question, () => void read(false)))
  return { items, next, state, fault, more: () => read(true), again: () => read(false) }
}

export type Column<T> = { title: string; cell: (item: T) => JSX.Element; kind?: 'right' | 'fit'; wide?: boolean; phone?: false }

export function List<T extends object>(props: { label: string; pages: ReturnType<typeof usePages<T>>; columns: Column<T>[]; empty: JSX.Element; open?: (item: T) => void }) {
  const look = (column: Column<T>) => ({ right: column.kind === 'right', fit: column.kind === 'fit', 'wide-only': column.wide, 'not-phone': column.phone === false })
  const pressed = (event: MouseEvent, item: T) => {
    if (!(event.target as Element).closest('a, button, input')) props.open?.(item)
  }
  return (
    <div class="panel">
      <Show when={props.pages.fault()}>{(fault) => <div class="body"><Notice>{fault().message}</Notice></div>}</Show>
      <Show when={props.pages.items.length} fallback={
        <Show when={props.pages.state() === 'ready'} fallback={<Show when={props.pages.state() === 'loading'}><p class="empty">Loading…</p></Show>}>{props.empty}</Show>
      }>
        <div class="scroll" tabindex="-1">
          <table class="table" aria-label={props.label}>
            <thead><tr><For each={props.columns}>{(column) => <th scope="col" classList={look(column)}>{column.title || <span class="hidden-text">Actions</span>}</th>}</For></tr></thead>
            <tbody>
              <For each={props.pages.items}>{(item) => (
                <tr data-open={props.open ? '' : undefined} onClick={(event) => pressed(event, item)}>
                  <For each={props.columns}>{(column) => <td classList={look(column)}>{column.cell(item)}</td>}</For>
                </tr>
              )}</For>
            </tbody>
          </table>
        </div>
      </Show>
      <Show when={props.pages.next()}>
        <div class="more"><Button disabled={props.pages.state() === 'loading'} onClick={props.pages.more}>Show more</Button></div>
      </Show>
    </div>
  )
}
export { Empty }
