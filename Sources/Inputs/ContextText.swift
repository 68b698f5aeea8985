//  The JSON that a record's context holds: what the connection and the request knew.
//
//      {"peer":{"ip":"192.0.2.1","port":40123,"name":"web-01.example"},
//       "tls":{"version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","verified":true,"subject":"CN=web-01"},
//       "proxy":{"ip":"192.0.2.9","port":5001},
//       "partial_line":true,
//       "http":{"method":"POST","target":"/in?x=1","version":"HTTP/1.1","headers":{"content_type":"text/plain"}}}
//
//  Inputs of this machine have `"host"`, its name, and of a Unix socket `"path"` instead of all that.
//
//  `peer` is always there; `name` where it was looked up. `tls` stands where the connection was encrypted; `subject` only
//  where the peer showed a certificate. `proxy` is the address that a PROXY line named as destination, and `peer` is then
//  its source.
//  `partial_line` marks the rest of a line that our own stop cut. Header names are in lower case with `_` for `-`, as
//  events carry them; of a header that stands twice the last counts. Credentials never get here.

internal import Diagnostics
internal import Net
internal import Records

/// Where events of this machine come from.
struct LocalOrigin: Sendable {
  var host: String
  var path: String?
}

enum ContextText {
  static func local(host: String, path: String?, isPartialLine: Bool = false) -> RecordContext {
    var out = ByteBuffer(capacity: 128)
    out.append("{\"host\":")
    appendJSON(host, to: &out)
    if let path {
      out.append(",\"path\":")
      appendJSON(path, to: &out)
    }
    if isPartialLine { out.append(",\"partial_line\":true") }
    out.append("}")
    return RecordContext(out.array())
  }

  static func connection(
    peer: PeerAddress, name: String? = nil, tls: TLSIdentity?, proxy: PeerAddress? = nil, isPartialLine: Bool = false
  ) -> RecordContext {
    var out = ByteBuffer(capacity: 128)
    begin(&out, peer: peer, name: name, tls: tls)
    if let proxy {
      out.append(",\"proxy\":")
      append(proxy, to: &out)
    }
    if isPartialLine { out.append(",\"partial_line\":true") }
    out.append("}")
    return RecordContext(out.array())
  }

  /// - Parameters:
  ///   - length: Length of the decoded body, which replaces the header's.
  ///   - isDecoded: `Content-Encoding` has been undone, so the header is left out.
  static func request(_ request: HTTPRequest, length: Int, isDecoded: Bool) -> RecordContext {
    var out = ByteBuffer(capacity: 1024)
    begin(&out, peer: request.peer, tls: request.tlsIdentity)
    out.append(",\"http\":{\"method\":")
    appendJSON(request.head.method, to: &out)
    out.append(",\"target\":")
    appendJSON(request.head.target, to: &out)
    out.append(request.head.minorVersion == 0 ? ",\"version\":\"HTTP/1.0\"" : ",\"version\":\"HTTP/1.1\"")
    out.append(",\"headers\":{\"content_length\":\"")
    out.append(decimal: length)
    out.append("\"")
    for (name, value) in headers(of: request, isDecoded: isDecoded) {
      out.append(",")
      appendJSON(name, to: &out)
      out.append(":")
      appendJSON(value, to: &out)
    }
    out.append("}}}")
    return RecordContext(out.array())
  }

  /// In order of first appearance, each name once.
  private static func headers(of request: HTTPRequest, isDecoded: Bool) -> [(name: [UInt8], value: ArraySlice<UInt8>)] {
    var found: [(name: [UInt8], value: ArraySlice<UInt8>)] = []
    request.head.forEachHeader { name, value in
      let name = name.map { $0 == 45 ? 95 : $0 >= 65 && $0 <= 90 ? $0 | 32 : $0 }
      if name.elementsEqual("authorization".utf8) || name.elementsEqual("proxy_authorization".utf8) { return }
      // The body has been put together, so how it came in pieces is of no meaning any more.
      if name.elementsEqual("content_length".utf8) || name.elementsEqual("transfer_encoding".utf8) { return }
      if isDecoded, name.elementsEqual("content_encoding".utf8) { return }
      if let i = found.firstIndex(where: { $0.name == name }) {
        found[i].value = value
      } else {
        found.append((name, value))
      }
    }
    return found
  }

  private static func begin(_ out: inout ByteBuffer, peer: PeerAddress, name: String? = nil, tls: TLSIdentity?) {
    out.append("{\"peer\":")
    append(peer, name, to: &out)
    guard let tls else { return }
    out.append(",\"tls\":{\"version\":")
    appendJSON(tls.version, to: &out)
    out.append(",\"cipher\":")
    appendJSON(tls.cipher, to: &out)
    out.append(tls.isVerified ? ",\"verified\":true" : ",\"verified\":false")
    if let subject = tls.subject {
      out.append(",\"subject\":")
      appendJSON(subject, to: &out)
    }
    out.append("}")
  }

  private static func append(_ address: PeerAddress, _ name: String? = nil, to out: inout ByteBuffer) {
    out.append("{\"ip\":")
    appendJSON(address.ip, to: &out)
    out.append(",\"port\":")
    out.append(decimal: address.port)
    if let name {
      out.append(",\"name\":")
      appendJSON(name, to: &out)
    }
    out.append("}")
  }
}

func appendJSON(_ text: String, to out: inout ByteBuffer) {
  var text = text
  text.withUTF8 { appendJSON(UnsafeRawBufferPointer($0), to: &out) }
}

func appendJSON(_ bytes: some Collection<UInt8>, to out: inout ByteBuffer) {
  if bytes.withContiguousStorageIfAvailable({ appendJSON(UnsafeRawBufferPointer($0), to: &out) }) == nil {
    Array(bytes).withUnsafeBytes { appendJSON($0, to: &out) }
  }
}

/// Appends `bytes` as a JSON string. Each byte that belongs to no valid UTF-8 sequence becomes U+FFFD.
func appendJSON(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
  out.append(34)
  var start = 0
  var i = 0
  func flush(_ out: inout ByteBuffer) {
    if start < i { out.append(UnsafeRawBufferPointer(rebasing: bytes[start..<i])) }
  }
  while i < bytes.count {
    let byte = bytes[i]
    if byte >= 0x80 {
      let length = utf8Length(bytes, at: i)
      if length > 0 {
        i += length
        continue
      }
      flush(&out)
      out.append("\u{FFFD}")
    } else if byte == 34 || byte == 92 {
      flush(&out)
      out.append(92)
      out.append(byte)
    } else if byte < 32 {
      flush(&out)
      switch byte {
      case 8: out.append("\\b")
      case 9: out.append("\\t")
      case 10: out.append("\\n")
      case 12: out.append("\\f")
      case 13: out.append("\\r")
      default:
        out.append(byte < 16 ? "\\u000" : "\\u001")
        let digit = byte & 15
        out.append(digit < 10 ? digit + 48 : digit + 87)
      }
    } else {
      i += 1
      continue
    }
    i += 1
    start = i
  }
  flush(&out)
  out.append(34)
}

/// Length of the valid UTF-8 sequence of two to four bytes at `i`; 0 where there is none.
///
/// Valid as in RFC 3629: shortest form, no surrogates, nothing above U+10FFFF.
@inline(__always)
func utf8Length(_ bytes: UnsafeRawBufferPointer, at i: Int) -> Int {
  let first = bytes[i]
  let left = bytes.count &- i
  func isTail(_ offset: Int) -> Bool { bytes[i &+ offset] & 0xc0 == 0x80 }
  switch first {
  case 0xc2...0xdf: return left >= 2 && isTail(1) ? 2 : 0
  case 0xe0...0xef:
    guard left >= 3, isTail(1), isTail(2) else { return 0 }
    let second = bytes[i &+ 1]
    if first == 0xe0, second < 0xa0 { return 0 }
    if first == 0xed, second > 0x9f { return 0 }
    return 3
  case 0xf0...0xf4:
    guard left >= 4, isTail(1), isTail(2), isTail(3) else { return 0 }
    let second = bytes[i &+ 1]
    if first == 0xf0, second < 0x90 { return 0 }
    if first == 0xf4, second > 0x8f { return 0 }
    return 4
  default: return 0
  }
}
