//  PluginKit
