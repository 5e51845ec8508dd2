// The text that Prometheus reads: exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). Called
// by metrics.ts for each family; pure.

export interface Sample {
  readonly labels: readonly (readonly [name: string, value: string])[];
  readonly value: number;
  /** What follows the family's name in a histogram: `_bucket`, `_sum` or `_count`. */
  readonly suffix?: string;
}

/** A family with its samples; empty where it has none. */
export function familyText(name: string, help: string, type: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return "";
  const lines = samples.map(({ labels, value, suffix = "" }) => {
    const pairs = labels.map(([label, text]) => `${label}="${escapedValue(text)}"`).join(",");
    return `${name}${suffix}${pairs && `{${pairs}}`} ${numberText(value)}\n`;
  });
  return `# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

const escapedValue = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

/** As Go's ParseFloat reads it. */
const numberText = (value: number): string =>
  Number.isFinite(value) ? String(value) : Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
