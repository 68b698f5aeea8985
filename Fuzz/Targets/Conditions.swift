//  Conditions: a text is a condition or is refused at one of its characters, and a condition answers for any event or says
//  why it cannot. The first line is the condition, the rest an event.

import Events
import Patterns

@Sendable func fuzzCondition(_ bytes: UnsafeRawBufferPointer) {
  guard bytes.count <= 4096 else { return }
  let text = String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self)
  let rest = UnsafeRawBufferPointer(rebasing: bytes.drop { $0 != 10 }.dropFirst())
  let condition: Condition
  do {
    condition = try Condition(text)
  } catch {
    if error.offset < 0 || error.offset > text.unicodeScalars.count { finding("no place in the text: \(error)") }
    if error.text.isEmpty { finding("refused without a reason") }
    return
  }
  let scratch = MatchScratch()
  let batch = EventBatch()
  let event = (try? batch.add(json: rest, arrivalNs: 0)) ?? batch.add(arrivalNs: 0)
  // A condition with a known answer may hold a part that fails on this event; where it does not fail, the answers agree.
  if let answer = try? condition.evaluate(event, scratch), let constant = condition.constantValue, answer != constant {
    finding("constant \(constant), and the answer is \(answer): \(text)")
  }
}
