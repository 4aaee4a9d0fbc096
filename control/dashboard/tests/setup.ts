// What browsers have and the test's imitation of one has not.
globalThis.matchMedia ??= ((media: string) => ({ media, matches: false, addEventListener() {} })) as unknown as typeof matchMedia
