//  The name of the machine, for events that no input brought.

internal import Glibc

/// The host name as the system gives it; `localhost` where it gives none.
func machineName() -> String {
  var name = [CChar](repeating: 0, count: 256)
  guard gethostname(&name, 255) == 0 else { return "localhost" }
  let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  return text.isEmpty ? "localhost" : text
}
