// Charts as SVG: a line, and bars by parts. What they show is said in words too, for whoever does not see them.
import { createMemo, createSignal, createUniqueId, For, onCleanup, onMount, Show } from 'solid-js'

export type Point = { x: number; y: number | null }

const LEFT = 40
const BOTTOM = 20
const TOP = 8

/** The width of what is drawn, in pixels: text keeps its size at any. */
function useWidth() {
  const [width, setWidth] = createSignal(480)
  let element!: HTMLElement
  const observer = new ResizeObserver(() => setWidth(Math.max(200, element.clientWidth)))
  onMount(() => observer.observe(element))
  onCleanup(() => observer.disconnect())
  return { width, ref: (found: HTMLElement) => { element = found } }
}

/** Round values from nothing to at least the greatest, four or five of them. */
export function ticks(most: number): number[] {
  if (!(most > 0)) return [0, 1]
  const rough = most / 4
  const unit = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((step) => step >= rough) ?? rough
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, at) => at * step)
}

const number = (value: number, digits: number) => value.toLocaleString(undefined, { maximumFractionDigits: digits })
/** The digits by which the ticks of an axis differ: those below 1 would all read 0. */
export const digitsOf = (ticks: number[]) => Math.max(0, ...ticks.map((tick) => (String(Number(tick.toPrecision(6))).split('.')[1] ?? '').length))

export function LineChart(props: { title: string; points: Point[]; second?: Point[]; names?: [string, string]; label: (x: number) => string; from?: number; to?: number; digits?: number; unit?: string; height?: number }) {
  const { width, ref } = useWidth()
  const id = createUniqueId()
  const height = () => props.height ?? 150
  const all = () => [...props.points, ...(props.second ?? [])]
  const values = () => all().map((point) => point.y).filter((y): y is number => y != null)
  const scale = createMemo(() => props.to != null ? Array.from({ length: Math.floor(props.to) - (props.from ?? 0) + 1 }, (_, at) => (props.from ?? 0) + at) : ticks(Math.max(0, ...values())))
  const [low, high] = [() => props.from ?? 0, () => props.to ?? scale().at(-1)!]
  const [first, last] = [() => all()[0]?.x ?? 0, () => Math.max(...all().map((point) => point.x), (all()[0]?.x ?? 0) + 1)]
  const x = (value: number) => LEFT + ((value - first()) / (last() - first())) * (width() - LEFT - 8)
  const y = (value: number) => TOP + (1 - (value - low()) / (high() - low())) * (height() - TOP - BOTTOM)
  // A gap in the figures is a gap in the line.
  const path = (points: Point[]) => points.reduce((path, point, at) => point.y == null ? path : `${path}${points[at - 1]?.y == null ? 'M' : 'L'}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`, '')
  const says = () => values().length ? `${props.title}: from ${number(Math.min(...values()), props.digits ?? 0)} to ${number(Math.max(...values()), props.digits ?? 0)}${props.unit ? ` ${props.unit}` : ''}` : `${props.title}: no figures`
  const steps = createMemo(() => {
    const points = props.points.length ? props.points : (props.second ?? [])
    const every = Math.max(1, Math.ceil(points.length / Math.max(2, Math.floor((width() - LEFT) / 90))))
    return points.filter((_, at) => at % every === 0)
  })
  // Where there are many, the line says it; a single figure has none.
  const Dots = (series: { points: Point[]; look: string }) => (
    <For each={series.points.length < 60 ? series.points.filter((point) => point.y != null) : []}>{(point) => <circle class={series.look} cx={x(point.x)} cy={y(point.y!)} r="2.5"><title>{`${props.label(point.x)}: ${number(point.y!, props.digits ?? 1)}`}</title></circle>}</For>
  )
  return (
    <figure ref={ref}>
      <svg class="chart" viewBox={`0 0 ${width()} ${height()}`} role="img" aria-labelledby={id}>
        <title id={id}>{says()}</title>
        <For each={scale()}>{(value) => <><path class="grid" d={`M${LEFT} ${y(value)}H${width()}`} /><text x={LEFT - 6} y={y(value) + 4} text-anchor="end">{number(value, digitsOf(scale()))}</text></>}</For>
        <For each={steps()}>{(point) => <text x={x(point.x)} y={height() - 4} text-anchor="middle">{props.label(point.x)}</text>}</For>
        <path class="line" d={path(props.points)} />
        <Dots points={props.points} look="key-accent" />
        <Show when={props.second}>{(second) => <><path class="line second" d={path(second())} /><Dots points={second()} look="key-3" /></>}</Show>
      </svg>
      <Show when={props.names}>{(names) => <figcaption class="legend"><span><i class="key-accent" />{names()[0]}</span><span><i class="key-3" />{names()[1]}</span></figcaption>}</Show>
    </figure>
  )
}

export function Bars(props: { title: string; items: { label: string; parts: number[] }[]; names: string[]; looks: string[]; height?: number }) {
  const { width, ref } = useWidth()
  const id = createUniqueId()
  const height = () => props.height ?? 150
  const totals = () => props.items.map((item) => item.parts.reduce((a, b) => a + b, 0))
  const scale = createMemo(() => ticks(Math.max(1, ...totals())).filter((tick) => Number.isInteger(tick)))
  const slot = () => (width() - LEFT) / Math.max(1, props.items.length)
  const y = (value: number) => TOP + (1 - value / scale().at(-1)!) * (height() - TOP - BOTTOM)
  const every = () => Math.max(1, Math.ceil(60 / slot()))
  return (
    <figure ref={ref}>
      <svg class="chart" viewBox={`0 0 ${width()} ${height()}`} role="img" aria-labelledby={id}>
        <title id={id}>{`${props.title}: ${totals().reduce((a, b) => a + b, 0).toLocaleString()} in all, at most ${Math.max(0, ...totals())} at once`}</title>
        <For each={scale()}>{(value) => <><path class="grid" d={`M${LEFT} ${y(value)}H${width()}`} /><text x={LEFT - 6} y={y(value) + 4} text-anchor="end">{value.toLocaleString()}</text></>}</For>
        <For each={props.items}>{(item, at) => (
          <g>
            <title>{`${item.label}: ${item.parts.map((part, of) => `${props.names[of]} ${part}`).join(', ')}`}</title>
            <For each={item.parts}>{(part, of) => {
              const below = () => item.parts.slice(0, of()).reduce((a, b) => a + b, 0)
              return <rect class={props.looks[of()]} x={LEFT + at() * slot() + slot() * 0.15} width={Math.max(1, Math.min(36, slot() * 0.7))} y={y(below() + part)} height={Math.max(0, y(below()) - y(below() + part))} />
            }}</For>
            <Show when={at() % every() === 0}><text x={LEFT + at() * slot() + Math.min(18 + slot() * 0.15, slot() / 2)} y={height() - 4} text-anchor="middle">{item.label}</text></Show>
          </g>
        )}</For>
      </svg>
      <figcaption class="legend"><For each={props.names}>{(name, of) => <span><i class={props.looks[of()]} />{name}</span>}</For></figcaption>
    </figure>
  )
}
