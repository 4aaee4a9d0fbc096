// Icons as strokes on a grid of 24, drawn for this page.
const PATHS = {
  live: 'M4 12v0M8 8v8M12 4v16M16 9v6M20 12v0',
  records: 'M5 4h11l3 3v13H5zM9 10h6M9 14h6',
  kpis: 'M4 20V4M4 20h16M8 16v-4M12 16V8M16 16v-6',
  agents: 'M5 9h14v9H5zM12 9V5M9 13v1M15 13v1',
  contacts: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4 21c1-4 4-6 8-6s7 2 8 6',
  block: 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M6 6l12 12',
  trunk: 'M4 12h16M14 6l6 6-6 6',
  route: 'M5 5v6a4 4 0 0 0 4 4h10M15 11l4 4-4 4',
  number: 'M9 4L7 20M17 4l-2 16M4 9h16M4 15h16',
  device: 'M8 3h8v18H8zM11 18h2',
  people: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M2 20c1-4 3.500-5.500 7-5.500s6 1.500 7 5.500M16 4.500a3.500 3.500 0 0 1 0 6.500M18 14.500c2 .7 3.300 2.500 4 5.500',
  key: 'M8 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 12h9M18 12v4',
  webhook: 'M12 7a3 3 0 1 1 2 2.800L10 17M7 20a3 3 0 1 1 1-5.800M17 20a3 3 0 1 0-2-4.500H9',
  audit: 'M12 3l8 3v6c0 5-3.500 8-8 9-4.500-1-8-4-8-9V6zM9 12l2 2 4-4',
  erase: 'M4 16l9-9 6 6-7 7H8zM9 11l6 6',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6L6 18',
  play: 'M7 5l12 7-12 7z',
  pause: 'M8 5v14M16 5v14',
  phone: 'M5 4h4l2 5-2.500 1.500a11 11 0 0 0 5 5L15 13l5 2v4a2 2 0 0 1-2 2A16 16 0 0 1 3 6a2 2 0 0 1 2-2',
  hangup: 'M3 14c5-5 13-5 18 0l-2.500 3-4-1.500v-3h-5v3l-4 1.500z',
  listen: 'M4 15v-2a8 8 0 0 1 16 0v2M4 15h3v5H4zM17 15h3v5h-3z',
  mic: 'M12 15a3 3 0 0 0 3-3V6a3 3 0 0 0-6 0v6a3 3 0 0 0 3 3M6 11a6 6 0 0 0 12 0M12 17v4',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  sun: 'M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.400 1.400M17.600 17.600L19 19M19 5l-1.400 1.400M6.400 17.600L5 19',
  moon: 'M20 14a8 8 0 1 1-9.500-10A7 7 0 0 0 20 14',
  out: 'M10 4H5v16h5M15 8l4 4-4 4M19 12H9',
  plus: 'M12 5v14M5 12h14',
  link: 'M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1',
} as const

export type IconName = keyof typeof PATHS

export const Icon = (props: { name: IconName }) => (
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d={PATHS[props.name]} /></svg>
)
