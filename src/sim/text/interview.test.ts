import { expect, test } from "bun:test";
import type { ChatMessage } from "../chat-request.ts";
import { createRng } from "../rng.ts";
import { composeReply } from "./reply.ts";
import { readConversation } from "./statements.ts";

const reply = (messages: readonly ChatMessage[]): string => composeReply(readConversation(messages), createRng("seed"));

const ask = (prompt: string, ...turns: string[]): string =>
  reply([
    { role: "system", content: prompt },
    ...turns.map((content, at) => ({ role: (turns.length - at) % 2 === 1 ? "user" : "assistant", content })),
  ]);

const peter = `You are Peter Miller, a 58-year-old carpenter from Leeds. You have two children. You take ibuprofen. The pain gets
worse when you climb stairs. Your father died of a heart attack at 60.`;

test.each([
  ["Good morning! What can I do for you?", "The pain gets worse when I climb stairs."],
  ["What do you do for a living?", "I am Peter Miller, a 58-year-old carpenter from Leeds."],
  ["Where do you live?", "I am Peter Miller, a 58-year-old carpenter from Leeds."],
  ["Do you have kids?", "Yes, I have two children."],
  ["How old was your father when he died?", "My father died of a heart attack at 60."],
  ["Do you take aspirin?", "I take ibuprofen."],
  ["Hello Mr Miller, I am Dr. Lee.", /^Hello.*I am Peter Miller/],
  ["Hi, please tell me about the pain.", "The pain gets worse when I climb stairs."],
  ["Thank you, goodbye!", /^Goodbye/],
])("what one does, whom one has, and what one is not asked: %s", (question, answer) => {
  if (typeof answer === "string") expect(ask(peter, question)).toBe(answer);
  else expect(ask(peter, question)).toMatch(answer);
});

test("what was said is not said again when there is nothing else", () => {
  const [question, told] = ["What brings you here?", "I have a cough."];
  expect(ask("You are Eva. You have a cough.", question, told, "Anything else?")).toBe("No, that is all.");
});

test("an engineer with an age is a person, an assistant with a name is none", () => {
  const tom = "You are a 45-year-old engineer named Tom with back pain. You can't sleep at night.";
  expect(ask(tom, "Are you able to sleep?")).toBe("I can't sleep at night.");
  expect(ask("You are GPT-4, a helpful assistant.", "What is 2 + 3?")).toEndWith("= 5");
  const milo = "You are Milo, the friendly assistant of the Riverside Hotel. The pool is closed in winter.";
  expect(ask(milo, "What is 20% of 50?")).toEndWith("= 10");
  expect(ask(milo, "Is the pool open in winter?")).toBe("The pool is closed in winter.");
});

const huber = `Sie sind Frau Huber, 45 Jahre, Verkäuferin. Sie haben seit gestern Bauchschmerzen und nehmen Tropfen. Ihr Blinddarm
wurde nie operiert.`;

test.each([
  ["Wo tut es weh?", "Ich habe seit gestern Bauchschmerzen und nehme Tropfen."],
  ["Wurden Sie schon operiert?", "Mein Blinddarm wurde nie operiert."],
  ["Wie heißen Sie?", "Ich bin Frau Huber, 45 Jahre, Verkäuferin."],
  ["Was arbeiten Sie?", "Ich bin Frau Huber, 45 Jahre, Verkäuferin."],
])("a prompt may say Sie: %s", (question, answer) => {
  expect(ask(huber, question)).toBe(answer);
});

const sabine = `Du bist Sabine Koch, 52 Jahre, Buchhalterin. Du hast seit zwei Wochen Kopfschmerzen. Die Schmerzen sind an der
Stirn und ziehen in den Nacken. Du hast Bluthochdruck und nimmst Ramipril. Du verträgst kein Penicillin. Deine Mutter
hatte einen Schlaganfall.`;

test.each([
  ["Was kann ich für Sie tun?", "Ich habe seit zwei Wochen Kopfschmerzen."],
  ["Strahlen sie aus?", "Ja, die Schmerzen sind an der Stirn und ziehen in den Nacken."],
  ["Was machen Sie beruflich?", "Ich bin Sabine Koch, 52 Jahre, Buchhalterin."],
  ["Haben Sie Allergien?", "Ich vertrage kein Penicillin."],
  ["Gibt es Krankheiten in der Familie?", "Meine Mutter hatte einen Schlaganfall."],
])("or du, with verbs that change: %s", (question, answer) => {
  expect(ask(sabine, question)).toBe(answer);
});

test("whom one plays is told as who one is", () => {
  const john = "You are playing a patient: John Reed, a 67-year-old retired bus driver. You live with your wife Mary.";
  expect(ask(john, "What is your name?")).toBe("I am John Reed, a 67-year-old retired bus driver.");
  expect(ask(john, "What did you do for a living?")).toBe("I am John Reed, a 67-year-old retired bus driver.");
});

const maria = `You are a patient in a consultation.

Name: Maria Lopez
Age: 29
Chief complaint: headache for 3 days
Allergies: none
Smoking: 5 cigarettes a day`;

test.each([
  ["What is your name?", "My name is Maria Lopez."],
  ["What brings you in?", "My chief complaint is headache for 3 days."],
  ["Do you have allergies?", "No allergies."],
  ["Do you smoke?", "As for smoking: 5 cigarettes a day."],
])("a form is spoken: %s", (question, answer) => {
  expect(ask(maria, question)).toBe(answer);
});

test("who is described answers with all of it in the first person", () => {
  const prompt =
    "Act as the patient. The patient is a retired farmer. He has high blood pressure and takes ramipril. His legs are swollen.";
  expect(ask(prompt, "Which medicine do you take?")).toBe("I have high blood pressure and take ramipril.");
  expect(ask(prompt, "Are your legs swollen?")).toBe("Yes, my legs are swollen.");
  expect(ask(prompt, "Who are you?")).toBe("I am a retired farmer.");
});

const lin = `你就是来看病的病人本人，不是医生，不是助手，也不是任何程序。你没有医学知识。
【我是谁】林晓雯，26岁，女，电商客服。
【我自己的想法】担心：要开刀。希望：打一针止痛。(医生问到才说)
【我的情况】(问到才说)
- 不是一下子疼起来的，是慢慢加重的。
- 爬楼喘，坐着也有点喘。
- 没开过刀，没受过外伤。
- 腿不肿不疼。
- 爸爸有糖尿病。
- 尿少、黄。
- 血糖高三年了。
- 青霉素过敏，小时候起过疹子。`;
const turn = (text: string): string => `<context>\n轮次 1/60；当前心情：焦虑\n</context>\n<student>${text}</student>`;

test.each([
  ["你好，我是李医生。", /^您好！我是林晓雯/],
  ["喘不喘？", "爬楼喘，坐着也有点喘。"],
  ["以前做过手术吗？", "没开过刀，没受过外伤。"],
  ["对什么药过敏？", "青霉素过敏，小时候起过疹子。"],
  ["有糖尿病吗？", "血糖高三年了。"],
  ["多大年纪了？", "我是林晓雯，26岁，女，电商客服。"],
  ["谢谢，再见。", "再见。"],
])("a doctor's questions in Chinese: %s", (question, answer) => {
  if (typeof answer === "string") expect(ask(lin, turn(question))).toBe(answer);
  else expect(ask(lin, turn(question))).toMatch(answer);
});

test("the role, and what the application keeps of the talk, are told to nobody", () => {
  for (const question of ["你好，我是李医生。", "还有什么不舒服？", "你得的是什么病？", "现在是第几轮？"]) {
    expect(ask(lin, turn(question))).not.toMatch(/助手|程序|医学知识|轮次|心情/);
  }
});

const report = `Write a report with sections Summary, Findings and Recommendation.

| test | value | unit |
|---|---|---|
| Hb | 13.2 | g/dl |
| CRP | 48 | mg/l |

She should take amoxicillin for 7 days.`;

test("a table is told in words, and each sentence of a report stands in a section", () => {
  const text = reply([{ role: "user", content: report }]);
  expect(text).toMatch(/## Findings\nHb: value 13.2, unit g\/dl. CRP: value 48, unit mg\/l.\n/);
  expect(text).toEndWith("## Recommendation\nShe should take amoxicillin for 7 days.");
  expect(text).not.toMatch(/[|—]/);
});

test("JSON in a prompt is data that is asked about", () => {
  const data =
    '{"order": {"id": "A-1001", "status": "shipped", "eta": "2026-12-03", "items": [{"name": "saw", "qty": 2}]}}';
  expect(ask(`Answer from this data: ${data}`, "What is the status of my order?")).toContain("shipped");
  expect(ask(`Answer from this data: ${data}`, "How many saws?")).toBe("order items: name saw, qty 2.");
  const given = `What is the status of the order?\n\n${JSON.stringify(JSON.parse(data), null, 2)}`;
  expect(reply([{ role: "user", content: given }])).toContain("shipped");
});

test("a person speaks Korean of itself", () => {
  const minsu = "당신은 김민수, 45세 남성 환자입니다. 어제부터 배가 아픕니다.";
  expect(ask(minsu, "이름이 뭐예요?")).toBe("저는 김민수, 45세 남성 환자입니다.");
});
