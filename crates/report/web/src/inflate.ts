// From the data element's base64 to its JSON text.
import { gunzipSync } from "fflate";

/** Decodes and inflates; the browser's own inflater where there is one. */
export async function inflate(base64: string): Promise<string> {
  const binary = atob(base64.trim());
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < packed.length; i++) packed[i] = binary.charCodeAt(i);
  if (typeof DecompressionStream === "undefined") {
    return new TextDecoder().decode(gunzipSync(packed));
  }
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
