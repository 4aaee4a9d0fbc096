import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { defineConfig, type Plugin } from 'vitest/config'
import solid from 'vite-plugin-solid'

// Where a server runs, for `npm run dev`.
const server = process.env.OMNIVOX ?? 'http://127.0.0.1:8080'

// The server embeds each file once plain and once packed; the folder itself stays in git, so that Cargo can watch it.
function pack(): Plugin {
  return {
    name: 'pack',
    apply: 'build',
    closeBundle() {
      for (const name of readdirSync('dist', { recursive: true, encoding: 'utf8' })) {
        if (!/\.(html|js|css|svg)$/.test(name)) continue
        writeFileSync(join('dist', `${name}.gz`), gzipSync(readFileSync(join('dist', name)), { level: 9 }))
      }
      writeFileSync('dist/.gitignore', '*\n!.gitignore\n')
    },
  }
}

export default defineConfig({
  plugins: [solid(), pack()],
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { '/api': { target: server, changeOrigin: true, ws: true, headers: { origin: server } } } },
  test: { environment: 'jsdom', setupFiles: 'tests/setup.ts', include: ['tests/**/*.test.{ts,tsx}'] },
})
