//  Codecs
