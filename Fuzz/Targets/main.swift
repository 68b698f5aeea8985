//  Fuzz targets for everything that reads bytes from outside. One program holds them all, so that the tree is built with
//  the fuzzer's counters once: `fuzz TARGET [options of libFuzzer] [corpus folders]`; without arguments it lists them.
//
//  What each checks stands at the head of its file. Of all it is asked that they never trap, never hang and never take
//  memory without bound; most also have an oracle, so that a wrong answer is a finding too.

import CFuzz
import Glibc

typealias Target = @Sendable (UnsafeRawBufferPointer) -> Void

let targets: [(name: String, body: Target)] = [
  ("beats", fuzzBeats),
  ("condition", fuzzCondition),
  ("date", fuzzDate),
  ("grok", fuzzGrok),
  ("http", fuzzHTTP),
  ("http-bodies", fuzzHTTPBodies),
  ("json", fuzzJSON),
  ("pattern", fuzzPattern),
  ("pipeline", fuzzPipeline),
  ("queue", fuzzQueue),
  ("canary", fuzzCanary),
]

/// The chosen target. Written once before the fuzzer starts its one thread.
enum Chosen {
  nonisolated(unsafe) static var body: Target = { _ in }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  Chosen.body(UnsafeRawBufferPointer(start: bytes, count: count))
  return 0
}

/// Ends the run: the input is kept by the fuzzer and `text` says what is wrong with it.
func finding(_ text: String) -> Never { fatalError(text) }

/// The alarm's own test: libFuzzer has to find these four bytes within seconds, or the counters do not reach it.
@Sendable func fuzzCanary(_ bytes: UnsafeRawBufferPointer) {
  if bytes.count >= 4, bytes[0] == 0x73, bytes[1] == 0x6c, bytes[2] == 0x75, bytes[3] == 0x69 {
    finding("the canary was found, as it should be")
  }
}

var arguments = Array(CommandLine.arguments)
guard arguments.count > 1, let target = targets.first(where: { $0.name == arguments[1] }) else {
  print(targets.map(\.name).joined(separator: "\n"))
  exit(arguments.count > 1 ? 2 : 0)
}
Chosen.body = target.body
arguments.remove(at: 1)
var count = CInt(arguments.count)
var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
words.withUnsafeMutableBufferPointer { words in
  var first = words.baseAddress
  exit(LLVMFuzzerRunDriver(&count, &first, testOneInput))
}
