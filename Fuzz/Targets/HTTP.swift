//  The head of an HTTP request: it is taken or refused with a status that says why, whatever stands in it, and what is
//  asked of a head that was taken agrees with itself.

import Net

@Sendable func fuzzHTTP(_ bytes: UnsafeRawBufferPointer) {
  var limits = HTTPLimits()
  limits.headBytes = 4096
  limits.requestLineBytes = 1024
  limits.headers = 20
  do {
    let head = try HTTPHead(bytes, limits: limits)
    if head.contentLength.map({ $0 < 0 }) == true { finding("a negative length was taken") }
    if head.isChunked, head.contentLength != nil { finding("two lengths of one body were taken") }
    if !head.target.utf8.starts(with: head.path.utf8) { finding("the path is no beginning of the target") }
    _ = (head.method, head.query, head.isMethod("POST"), head.keepsAlive, head.expectsContinue)
    for name in ["host", "content-type", "content-encoding", "authorization", "x"] { _ = head.header(name) }
  } catch {
    if !(400...599).contains(error.status) || error.reason.isEmpty { finding("refused without a reason: \(error)") }
  }
}
