// Numbers for people: three significant digits, binary units, exact figures kept for the hover.

const NBSP = "\u00a0";
const DASH = "–";
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A figure as shown, and as it is. */
export interface Figure { text: string; exact: string }

const none = (): Figure => ({ text: DASH, exact: "not known" });
const known = (n: number | null | undefined): n is number =>
  typeof n === "number" && Number.isFinite(n);

/** Three significant digits without an exponent: 1.23, 12.3, 123. */
export function significant(n: number): string {
  const size = Math.abs(n);
  return n.toFixed(size >= 99.95 || size === 0 ? 0 : size >= 9.995 ? 1 : 2);
}

/** Like [`significant`], with trailing zeroes gone: for the marks of an axis. */
export const short = (n: number): string => String(Number(significant(n)));

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Bytes in binary units. `tidy` drops trailing zeroes. */
export function bytes(n: number | null | undefined, tidy = false): Figure {
  if (!known(n)) return none();
  let unit = 0;
  let scaled = n;
  while (Math.abs(scaled) >= 1023.5 && unit + 1 < BINARY.length) {
    scaled /= 1024;
    unit += 1;
  }
  const number = unit === 0 ? grouped.format(scaled) : tidy ? short(scaled) : significant(scaled);
  return { text: `${number}${NBSP}${BINARY[unit]}`, exact: `${grouped.format(n)} bytes` };
}

/** "64 – 768 B": two amounts, the unit once where it is the same. */
export function byteRange(low: number, high: number): string {
  const [from, to] = [bytes(low, true).text, bytes(high, true).text];
  const [number, unit] = from.split(NBSP);
  return to.endsWith(`${NBSP}${unit}`) ? `${number}${NBSP}–${NBSP}${to}` : `${from}${NBSP}–${NBSP}${to}`;
}

/** KiB, as the kernel counts. */
export const kib = (n: number | null | undefined): Figure => bytes(known(n) ? n * 1024 : n);

const LARGE: [number, string][] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** A count of things: exact below 10,000, then k, M, G. */
export function count(n: number | null | undefined, unit = ""): Figure {
  if (!known(n)) return none();
  const exact = grouped.format(n) + (unit ? ` ${unit}` : "");
  if (Math.abs(n) < 1e4) return { text: grouped.format(n), exact };
  for (const [scale, name] of LARGE) {
    if (Math.abs(n) >= scale * 0.9995) {
      return { text: `${significant(n / scale)}${NBSP}${name}`, exact };
    }
  }
  return { text: grouped.format(n), exact };
}

/** Nanoseconds. */
export function nanoseconds(n: number | null | undefined): Figure {
  if (!known(n)) return none();
  const exact = `${n} ns`;
  if (n >= 1e6) return { text: `${significant(n / 1e6)}${NBSP}ms`, exact };
  if (n >= 9999.5) return { text: `${significant(n / 1e3)}${NBSP}µs`, exact };
  return { text: `${n >= 999.5 ? grouped.format(n) : significant(n)}${NBSP}ns`, exact };
}

/** Seconds, up to hours. */
export function seconds(n: number | null | undefined): Figure {
  if (!known(n)) return none();
  const exact = `${n} s`;
  if (n === 0) return { text: `0${NBSP}s`, exact };
  if (n < 1e-3) return { text: `${significant(n * 1e6)}${NBSP}µs`, exact };
  if (n < 0.9995) return { text: `${significant(n * 1e3)}${NBSP}ms`, exact };
  if (n < 90) return { text: `${significant(n)}${NBSP}s`, exact };
  const whole = Math.round(n);
  const pad = (part: number) => String(part).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 90) return { text: `${minutes}${NBSP}min${NBSP}${pad(whole % 60)}${NBSP}s`, exact };
  return { text: `${Math.floor(minutes / 60)}${NBSP}h${NBSP}${pad(minutes % 60)}${NBSP}min`, exact };
}

/** A share of one as per cent. */
export function percent(share: number | null | undefined): Figure {
  if (!known(share)) return none();
  const value = share * 100;
  const size = Math.abs(value);
  const text = size === 0 || size === 100 ? String(value)
    : size > 99.95 && size < 100 ? (size >= 99.995 ? ">99.99" : value.toFixed(2))
    : size < 0.05 ? "<0.1" : value.toFixed(1);
  return { text: `${text}${NBSP}%`, exact: `${value} %` };
}

/** A ratio to the system's: 0.72×. Nought and unknown are both "no figure". */
export function ratio(n: number | null | undefined): Figure {
  if (!known(n) || n <= 0) return none();
  return { text: `${n >= 99.5 ? Math.round(n) : n.toFixed(2)}×`, exact: `${n} of the system's` };
}

/** What a ratio means in words: "28 % less CPU time" for the words "CPU time". */
export function ratioWords(n: number, words: string): string {
  if (!known(n) || n <= 0) return "not measured";
  const change = Math.round(Math.abs(1 - n) * 100);
  if (change === 0) return `as much ${words}, within 1${NBSP}%`;
  if (n >= 2) return `${n.toFixed(1)} times as much ${words}`;
  return `${change}${NBSP}% ${n < 1 ? "less" : "more"} ${words}`;
}

/** The file's own name, for narrow places; the hover has the path. */
export const fileName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

/** "parse.rs:42", or nothing. */
export function place(file: string, line: number): string {
  return file ? fileName(file) + (line > 0 ? `:${line}` : "") : "";
}

/** A sentence whose numbers stay with their units. */
export const prose = (sentence: string): string =>
  sentence.replace(/(\d) (?=(?:%|[KMGT]?i?B|[kMG]|ns|µs|ms|s)(?![\w]))/g, `$1${NBSP}`);

/** What a process is called: the link by which it was started, else its file. */
export const processName = (process: { exe: string; name?: string }): string =>
  process.name || fileName(process.exe);
