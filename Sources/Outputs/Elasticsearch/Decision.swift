//  What is done about an answer of Elasticsearch: one table for the documents of a bulk request, one for whole requests.

/// What follows from a status.
enum Decision: Equatable, Sendable {
  /// The document is indexed, or its deletion is done.
  case done
  /// A document with this id is there already, from an earlier attempt.
  case duplicate
  /// A newer version is there, as the external version asks.
  case stale
  /// Sent again after a pause, as often as it takes.
  case retry
  /// Sent again up to so many such answers, then a dead letter.
  case retryAttempts(Int)
  /// Sent again while it is answered so, for at most this long, then a dead letter.
  case retryFor(Duration)
  /// No attempt will help.
  case deadLetter
  /// The request was taken: its items tell more.
  case readItems
  /// One of the documents spoils the request, or it is too large: it is sent in halves.
  case halve
  /// The host is at fault (credentials, address, a redirection): it gets no bodies until a small request succeeds.
  case setAside

  /// Decides about one document.
  ///
  /// - Parameter hasVersion: It was sent with an external version.
  static func decide(
    itemStatus: Int, type: String = "", reason: String = "", action: BulkAction = .create, hasVersion: Bool = false
  ) -> Decision {
    switch itemStatus {
    case 200, 201: .done
    case 404 where action == .delete && type.isEmpty: .done
    case 409 where action == .create: .duplicate
    case 409 where hasVersion: .stale
    // Somebody else changes the document at the same time.
    case 409 where action == .update: .retryAttempts(5)
    case 429, 503: .retry
    case 400 where type == "validation_exception" && reason.contains("shards open"): .retry
    case 500, 502, 504: .retryAttempts(5)
    // A full disk, as servers before 7.7 tell it: it clears itself.
    case 403 where reason.contains("read-only / allow delete") || reason.contains("read-only-allow-delete"): .retry
    case 403: .retryFor(.seconds(300))
    default: .deadLetter
    }
  }

  /// Decides about a whole request. What an address or a proxy is at fault for waits until somebody mends it; a body at
  /// fault is halved down to the document that spoils it.
  ///
  /// - Parameter type: The error's type in the answer; empty where the answer is not the server's JSON.
  static func decide(requestStatus: Int, type: String = "", reason: String = "") -> Decision {
    switch requestStatus {
    case 200..<300: .readItems
    case 413: .halve
    case 400 where isAboutBody(type, reason): .halve
    case 500 where type.hasPrefix("x_content_") || type.hasPrefix("json_"): .halve
    case 429 where canNeverFit(reason): .halve
    case 300..<408, 409..<429, 430..<500: .setAside
    default: .retry
    }
  }

  private static func isAboutBody(_ type: String, _ reason: String) -> Bool {
    if type.isEmpty || type.hasPrefix("too_long_http_") || type.hasPrefix("media_type_") { return false }
    return !reason.contains("unrecognized parameter")
  }

  /// Whether a server with nothing else to do would refuse the request too: it names its size and the limit.
  private static func canNeverFit(_ reason: String) -> Bool {
    if let size = figure("coordinating_operation_bytes=", reason),
      let limit = figure("max_coordinating_and_primary_bytes=", reason)
    {
      return size > limit
    }
    return false
  }

  private static func figure(_ name: String, _ text: String) -> Int? {
    guard let place = text.firstRange(of: name) else { return nil }
    return Int(text[place.upperBound...].prefix { $0.isNumber })
  }

  /// Whether the server asks for less load.
  static func isOverload(_ status: Int) -> Bool { status == 429 || status == 503 }
}
