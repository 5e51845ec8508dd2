import { expect, test } from "bun:test";
import { SettingsError } from "../settings-error.ts";
import { ruleFor } from "./scenario.ts";
import { parseScenarios } from "./script-file.ts";

function problemsOf(text: string): string[] {
  try {
    parseScenarios(text, "s.yaml");
  } catch (error) {
    if (error instanceof SettingsError) return error.message.split("\n");
    throw error;
  }
  return [];
}

test("a file of scenarios, as YAML and as JSON", () => {
  const yaml = `
refund:
  - when: {step: 1, user: refund}
    calls: [{name: get_order, arguments: {id: 17}}]
  - {}
hello:
  - text: "Hello, {{question}}"
`;
  const json = JSON.stringify({
    refund: [{ when: { step: 1, user: "refund" }, calls: [{ name: "get_order", arguments: { id: 17 } }] }, {}],
    hello: [{ text: "Hello, {{question}}" }],
  });
  for (const text of [yaml, json]) {
    const scenarios = parseScenarios(text, "s.yaml");
    expect([...scenarios.keys()]).toEqual(["refund", "hello"]);
    const [rule] = scenarios.get("refund")?.rules ?? [];
    expect(rule?.calls).toEqual([{ name: "get_order", arguments: '{"id":17}' }]);
    expect(scenarios.get("hello")?.rules[0]?.text).toEqual(["Hello, ", { place: "question" }, ""]);
  }
});

test("what is wrong is told with its line, of all rules at once", () => {
  const text = `refund:
  - when: {turn: 0}
  - txet: Hello
  - text: "{{who}}"
  - calls:
      - arguments: {}
  - fault: "status=200"
  - finish_reason: done
  - when:
      user: /(/
  - calls:
      - name: a
        arguments: 7
other: none
`;
  expect(problemsOf(text)).toEqual([
    "s.yaml:2: turn must be a whole number from 1",
    "s.yaml:3: a rule has no field txet: one of when, reasoning, text, calls, finish_reason, fault",
    "s.yaml:4: text has no place {{who}}: one of {{question}}, {{system}}, {{turn}}, {{result}}, {{answer}}",
    "s.yaml:6: name of a call must be a text",
    "s.yaml:7: status needs a whole number from 400 to 599",
    "s.yaml:8: finish_reason must be one of stop, length, tool_calls, content_filter",
    expect.stringMatching(/^s\.yaml:10: user is no regular expression: /),
    "s.yaml:13: arguments must be an object, or a text to send as it is",
    "s.yaml:14: the scenario other must be a list",
  ]);
  expect(problemsOf("a:\n  - text: [\n")).toEqual([expect.stringMatching(/^s\.yaml:\d: /)]);
  expect(problemsOf("a: []\na: []\n")).toEqual([expect.stringMatching(/^s\.yaml:2: .*unique/)]);
  expect(problemsOf("a: &x\n  - text: b\nb: *x\n")).toEqual(["s.yaml:3: aliases are not taken"]);
  const inside = "a:\n  - calls:\n      - name: f\n        arguments: {one: &x {}, two: *x}\n";
  expect(problemsOf(inside)).toEqual(["s.yaml:4: aliases are not taken"]);
  expect(problemsOf("")).toEqual([expect.stringContaining("s.yaml")]);
  expect(problemsOf("- a")).toEqual(["s.yaml:1: the script must be a map"]);
});

test("the first rule that fits the moment of a conversation", () => {
  const text = `s:
  - {when: {turn: 2}, text: second}
  - {when: {tool: get_order, result: /shipped/i}, text: shipped}
  - {when: {tool: get_order}, text: not shipped}
  - {when: {result: anything}, text: other tool}
  - {when: {step: 2}, text: went on}
  - {when: {user: ORDER, system: clerk}, text: order}
  - {when: {user: /^order$/}, text: exact}
`;
  const scenario = parseScenarios(text, "s.yaml").get("s");
  const said = (...messages: { role: string; content?: string; [field: string]: unknown }[]): unknown =>
    scenario && ruleFor(scenario, messages)?.text?.join("");
  const user = (content: string) => ({ role: "user", content });
  const calling = (name: string) => ({
    role: "assistant",
    tool_calls: [{ id: "call_1", type: "function", function: { name, arguments: "{}" } }],
  });
  const result = (content: string) => ({ role: "tool", tool_call_id: "call_1", content });
  expect(said({ role: "system", content: "You are a Clerk." }, user("My order, please."))).toBe("order");
  expect(said(user("order"))).toBe("exact");
  expect(said(user("My order"))).toBeUndefined();
  expect(said(user("order"), calling("get_order"), result("It was SHIPPED."))).toBe("shipped");
  expect(said(user("order"), calling("get_order"), result("It waits."))).toBe("not shipped");
  expect(said(user("order"), calling("search"), result("Anything goes."))).toBe("other tool");
  expect(said(user("order"), calling("search"), result("Nothing."))).toBe("went on");
  expect(said(user("order"), calling("get_order"), result("shipped"), { role: "assistant" }, user("x"))).toBe("second");
});
