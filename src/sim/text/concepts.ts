// Words that mean the same in what people ask of a small model: the pairs that stems and parts of words do not find,
// in English, German, Chinese and Korean. Called by ranking and by the choice of a tool; it need not be complete.
import { normalised, stem, wordsOf } from "./words.ts";

/** A concept a line, or two; the first word names it. Words of scripts without spaces are looked for anywhere. */
const table = `
trigger cause caused auslöser ursache ausgelöst 原因 引起 诱因 受凉 着凉 淋 劳累 吃坏 吃了 원인
whereabouts stelle 位置 部位 哪里 哪儿 哪个地方 指一下 指着 右边 左边 上面 下面 这里 周围 부위
sweat sweating sweats schwitzen nachtschweiß 汗 땀
fatigue tired weak weakness exhausted müde schwach erschöpft 精神 没劲 乏力 疲劳 累 피곤
confusion confused delirious verwirrt 意识 糊涂 胡话 神志
previously früher 以前 类似 第一次 从来没 从没 这样过 전에
severity severe bad scale stärke 几分 十分 多痛 多疼 忍受 忍 厉害 심한
stabbing burning stechend brennend 痛法 疼法 胀痛 绞痛 刺痛 拧着 针扎 什么样的感觉 隐隐
radiation radiate radiates spread spreads ausstrahlen strahlen strahlt ziehen zieht 放射 牵扯 牵连 串
verlauf 变化 越来越 更厉害 相比 比昨 一直 没停 경과
diabetes diabetic zucker insulin 糖尿病 血糖 당뇨
hypertension blutdruck bluthochdruck 血压 혈압
heart cardiac herz 心脏 冠心病 심장
lung asthma tuberculosis lunge 肺 哮喘 结核 천식
gynaecology vagina ovary ovarian gynäkologisch 妇科 卵巢 白带 阴道 下面没有
better 休息 缓解 好一点 轻了 躺
pain ache aching hurt hurts hurting sore painful discomfort schmerz schmerzen weh 痛 疼 不舒服 难受 통증 아프
pain headache headaches toothache stomachache backache kopfweh bauchweh 아파
onset begin begins began begun start started starts since beginn begann begonnen angefangen seit
onset 开始 几天 多久 多长时间 持续 天前 시작 부터
medication medicine medicines drug drugs pill pills tablet tablets dose medikament medikamente
medication painkiller painkillers schmerzmittel tabletten arznei 药 头孢 布洛芬 二甲双胍 阿司匹林 약을 약이
intake take takes taking took taken nehmen nehme nimmst nimmt einnehmen
allergy allergic allergies allergie allergisch vertragen verträgst verträgt 过敏 알레르기
occupation job work working profession employed beruf beruflich arbeit arbeiten arbeitest 工作 职业 上班
occupation 夜班 客服 做什么的 工人 施工 직업
age aged alter 岁 年龄 多大 나이
name called heissen heisse heisst 名字 姓名 叫什么 贵姓 이름
smoke smoking smoker cigarette cigarettes tobacco rauchen rauchst rauche raucht zigaretten 烟 담배
alcohol drink drinking drinks wine beer alkohol trinken trinkst trinke bier wein 酒 술을
fever temperature feverish fieber temperatur 发烧 发热 体温 烧 度 열이
cough coughing husten 咳 기침
sputum phlegm schleim auswurf 痰 가래
breath breathing breathless dyspnea atem atmen luft atemnot 喘 气短 胸闷 呼吸 憋气 숨이
stool bowel diarrhea diarrhoea constipation stuhl stuhlgang durchfall verstopfung 大便 拉肚子 腹泻 便秘 대변
urine urinate pee urination urin wasserlassen 小便 尿 소변
sleep asleep insomnia schlaf schlafen 睡 잠을
appetite eat eating hungry food meal appetit essen hunger 胃口 食欲 吃饭 식욕 먹
nausea vomit vomiting vomited nauseous übelkeit erbrechen übel 恶心 呕吐 吐 구토
family mother father parents sister brother wife husband relatives familie mutter vater
family geschwister 家里 家人 父母 父亲 母亲 兄弟 媳妇 老婆 丈夫 爸 妈 가족
children child kids kid son sons daughter daughters kinder kind sohn söhne tochter töchter
children 孩子 儿子 女儿 아이
pet pets dog dogs cat cats hund hunde katze katzen haustier haustiere 宠物
breakfast frühstück 早餐
illness disease ill sick cold flu erkältet condition conditions diagnosed chronic history vorerkrankung vorerkrankungen
illness diabetes asthma hypertension bluthochdruck epilepsy cancer krebs
illness krankheit erkrankung 慢性病 病史 大病 毛病 什么病 得过 身体 血糖 血压 糖尿病 心脏病 병력
surgery removed appendix operation operated operiert 手术 开刀 开过刀 수술
worse worsen aggravate aggravates schlimmer stärker 加重 更厉害 심해
better relieve relieves relief helps improve besser linderung lindert 缓解 好转 见好 减轻 나아
weight kilo kilos gewicht abgenommen 体重 瘦 체중
children child kids kid son daughter kinder kind sohn tochter
married marriage husband wife spouse verheiratet mann frau 结婚 爱人 丈夫 老婆 결혼
menstruation period periods menstrual menstruationsblutung 月经 例假 生理期 생리
travel trip travelled traveled vacation abroad holiday reise urlaub gereist 外地 旅游 出差 여행
worry worried worries afraid fear concern concerned scared sorge sorgen angst befürchtest 担心 害怕 怕 걱정
belief think believe suspect denkst glaubst denke glaube 觉得 以为 认为 생각
hope wish expect expectation hoffe hoffst wünsche wünschst 希望 期望 想要 盼 바라
blood bleeding bleed blut blutung 血 피가
color colour coloured farbe 颜色 什么色 色 색깔
examination test tests exam checked x-ray untersuchung untersucht test röntgen 检查 化验 拍片 片子 검사
treatment treated doctor visited therapy behandlung behandelt arzt 治疗 看过 输 诊所 医院 치료
price prices cost costs fee preis preise kosten kostet 价格 多少钱 价钱 费用 가격
weather forecast rain rainy sunny wetter regen vorhersage 天气 气温 下雨 날씨
calculate calculator calculation compute sum multiply plus times divided math arithmetic berechne
calculate berechnen rechne rechner 计算 算一下 等于 계산
search find lookup look google query suche suchen finde 搜索 查找 查询 搜 검색 찾아
mail email e-mail send schicke schicken sende senden 邮件 发送 发给 메일 보내
order orders ordered ordering buy purchase bestellen bestellung bestelle kaufen 订单 购买 下单 주문
booking book reserve reservation buchen buche buchung reservieren 预订 预约 예약
return returns refund refunds send-back rückgabe zurückgeben zurückschicken erstattung umtausch 退货
return 退款 반품 환불
delivery shipping ship shipped deliver delivered arrive arrives arrival eta lieferung liefern versand lieferzeit 送货 快递
delivery 配送 发货 배송
translate translation translator übersetze übersetzen übersetzung 翻译 번역
appointment meeting calendar schedule event termin kalender besprechung 会议 日程 约会 일정 회의
picture image photo draw drawing painting bild foto zeichne zeichnen 图片 图像 画 그림 사진
hours open opening closed closes opens öffnungszeiten geöffnet öffnet öffnen offen 营业 开门 영업
address city located location lives living adresse wohnst wohnt wohne ort 地址 住在 哪里人 位于 주소
phone telephone call number telefon telefonnummer anrufen 电话 전화
warranty guarantee garantie gewährleistung 保修 保证 보증
time clock uhrzeit uhr 几点 时间 시간 몇시
stock shares share aktie aktien kurs 股票 股价 주식 주가
reminder remind erinnere erinnerung 提醒 알림
contact contacts colleague colleagues kollegen 接触 工友 同事 접촉
`;

const paired = /[\p{Script=Han}\p{Script=Hangul}]/u;

interface Concepts {
  readonly byStem: ReadonlyMap<string, readonly string[]>;
  readonly inside: readonly (readonly [piece: string, concept: string])[];
}

const concepts: Concepts = read(table);

function read(lines: string): Concepts {
  const byStem = new Map<string, string[]>();
  const inside: [string, string][] = [];
  for (const line of lines.trim().split("\n")) {
    const words = line.split(" ");
    const concept = `#${words[0]}`;
    for (const word of words) {
      if (paired.test(word)) inside.push([normalised(word), concept]);
      else byStem.set(stem(word), [...new Set([...(byStem.get(stem(word)) ?? []), concept])]);
    }
  }
  return { byStem, inside };
}

/** Each concept that a text speaks of, as `#name`, with the stems or pieces that say so. */
export function conceptsIn(text: string): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, Set<string>>();
  const add = (concept: string, said: string): void => {
    const before = found.get(concept);
    if (before === undefined) found.set(concept, new Set([said]));
    else before.add(said);
  };
  for (const word of wordsOf(text)) {
    const root = stem(word);
    for (const concept of concepts.byStem.get(root) ?? compoundOf(root)) add(concept, root);
    if (isDrug(word)) add("#medication", root);
  }
  for (const [concept, said] of turnsIn(text)) add(concept, said);
  if (paired.test(text)) {
    const flat = normalised(text);
    // Diabetes is written with urine, and is not about it.
    const plain = flat.replaceAll("糖尿", "糖");
    for (const [piece, concept] of concepts.inside) {
      if ((piece.startsWith("糖尿") ? flat : plain).includes(piece)) add(concept, piece);
    }
  }
  return found;
}

export const conceptsOf = (text: string): ReadonlySet<string> => new Set(conceptsIn(text).keys());

const TAIL_CHARS_MIN = 5;
/** Longer ones are no words; looking for all their ends would take for ever. */
const COMPOUND_CHARS_MAX = 40;
/** German says at the end of a word what it is: "Bauchschmerzen" are pains. */
function compoundOf(root: string): readonly string[] {
  if (root.length > COMPOUND_CHARS_MAX) return [];
  for (let from = 3; root.length - from >= TAIL_CHARS_MIN; from++) {
    const found = concepts.byStem.get(root.slice(from));
    if (found !== undefined) return found;
  }
  return [];
}

export const isDrug = (word: string): boolean => drug.test(word);

/** Endings of the names of common drugs. */
const drug = /(?:profen|cillin|statin|azole?|mycin|formin|cetamol|pril|olol|sartan|oxacin|pirin)$/;
/** Concepts that take several words to say, with those words. */
export const turnsIn = (text: string): [concept: string, said: string][] =>
  turns.flatMap(([pattern, concept]): [string, string][] => {
    const said = pattern.exec(text)?.[0];
    return said === undefined ? [] : [[concept, normalised(said)]];
  });

const turns: readonly (readonly [RegExp, string])[] = [
  [/\b(?:send|bring|give|schick\w*)\b.{0,25}\b(?:back|zurück)\b/i, "#return"],
  [/\b(?:out of|of) (?:10|ten)\b|\b\d ?\/ ?10\b|von (?:10|zehn)\b/i, "#severity"],
  [/몇\s*시/, "#time"],
  [/\bwhat (?:do|does|did) (?:you|she|he|they) do\b(?!\s+(?:when|if|about|to|with|after|before)\b)/i, "#occupation"],
];
