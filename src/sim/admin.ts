// GET and POST /admin/config: the numbers of the profile, the rules of faults, how answers are made and the death of the
// engine, read and changed while the simulator runs. A change is checked whole before any of it is made. For tests and demonstrations; a
// real server has nothing like it.
import { isRecord } from "./chat-request.ts";
import type { Engine } from "./engine.ts";
import { FaultError } from "./fault.ts";
import { parseFaultRules } from "./fault-rules.ts";
import { checkProfile, type Profile, ProfileError } from "./profile.ts";
import type { AnswerSource, JsonBody, Route } from "./routes.ts";
import type { ServerState } from "./server-state.ts";
import { WireError } from "./wire-error.ts";

export const adminRoutes = (state: ServerState): readonly Route[] => [
  {
    method: "GET",
    path: "/admin/config",
    handle: (_, { engine, answers }) => Response.json(configOf(state, engine, answers)),
  },
  {
    method: "POST",
    path: "/admin/config",
    body: "json",
    handle({ body }, { engine, answers }) {
      change(state, engine, answers, body);
      return Response.json(configOf(state, engine, answers));
    },
  },
];

const configOf = (state: ServerState, engine: Engine, answers: AnswerSource) => ({
  profile: wireProfile(engine.profile()),
  asleep: state.sleep.queues ? "queue" : "reject",
  engine_dead: state.dead,
  faults: state.rules.list(),
  answers: answers.standing(),
});

const fields = ["profile", "engine_dead", "asleep", "faults", "answers"];

/** Throws WireError 400; then nothing has changed. */
function change(state: ServerState, engine: Engine, answers: AnswerSource, body: JsonBody): void {
  const unknown = Object.keys(body).find((name) => !fields.includes(name));
  if (unknown !== undefined) throw new WireError(400, `no setting is named ${unknown}`, unknown);
  const { engine_dead: dead, asleep } = body;
  if (asleep !== undefined && asleep !== "queue" && asleep !== "reject") {
    throw new WireError(400, "asleep must be reject or queue");
  }
  if (dead !== undefined && typeof dead !== "boolean") throw new WireError(400, "engine_dead must be true or false");
  try {
    const rules = body.faults === undefined ? null : parseFaultRules(body.faults);
    const answerOtherwise = body.answers === undefined ? null : answers.change(body.answers);
    if (body.profile !== undefined) engine.setProfile(changedProfile(engine.profile(), body.profile));
    answerOtherwise?.();
    if (rules !== null) state.rules.replace(rules);
    if (dead !== undefined) state.dead = dead;
    if (asleep !== undefined) state.sleep.queues = asleep === "queue";
  } catch (error) {
    if (error instanceof FaultError || error instanceof ProfileError || error instanceof RangeError) {
      throw new WireError(400, error.message);
    }
    throw error;
  }
}

/** The profile with the numbers that are given. Throws ProfileError. */
function changedProfile(profile: Profile, change: unknown): Profile {
  if (!isRecord(change)) throw new ProfileError("profile must be an object");
  const { name, ...now } = wireProfile(profile);
  const { step_us: steps, name: sameName = name, replay = profile.replay, ...rest } = change;
  if (sameName !== name || replay !== profile.replay)
    throw new ProfileError("the name of the profile and its recording stay");
  if (steps !== undefined && !isRecord(steps)) throw new ProfileError("step_us must be an object");
  return checkProfile(name, { ...now, ...rest, step_us: { ...now.step_us, ...steps } });
}

/** A profile by the keys of its file. */
function wireProfile({ name, stepUs, ...rest }: Profile) {
  return { name, ...snakeCased(rest), step_us: snakeCased(stepUs) };
}

const snakeCased = (fields: object): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
